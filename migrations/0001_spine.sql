-- +goose Up

create table projects (
    id           uuid primary key,
    name         text not null unique,
    created_date timestamptz not null
);

create table tokens (
    id           uuid primary key,
    project_id   uuid references projects on delete cascade, -- null for an operator's
    role         text not null check (role in ('viewer', 'member', 'admin', 'operator')),
    name         text not null,
    secret_hash  bytea not null,
    created_date timestamptz not null,
    revoked_date timestamptz,
    check ((project_id is null) = (role = 'operator'))
);
create index tokens_project on tokens (project_id, id);

create table runtimes (
    id           uuid primary key,
    sdk          text not null,
    sdk_version  text not null,
    python       text not null,
    platform     text not null,
    requirements text not null default '',
    template_tag text not null,
    locked_until timestamptz, -- packages released later are not in the lock
    status       text not null check (status in ('pending', 'building', 'available', 'failed')),
    lock         text not null default '',
    message      text not null default '',
    created_date timestamptz not null,
    updated_date timestamptz not null,
    unique (sdk, sdk_version, python, platform, requirements)
);

create table functions (
    id           uuid primary key,
    project_id   uuid not null references projects,
    name         text not null,
    description  text not null,
    template_tag text not null,
    sdk          text not null,
    sdk_version  text not null,
    settings     jsonb not null,
    next_version integer not null,
    created_date timestamptz not null,
    updated_date timestamptz not null,
    unique (project_id, name)
);
create index functions_project on functions (project_id, id);

-- What the object store holds: {project}/{sha256}. A row comes before its
-- object and leaves before it, so that no object is without a row.
create table objects (
    project_id   uuid not null references projects,
    sha256       text not null,
    size         bigint not null,
    touched_date timestamptz not null,
    primary key (project_id, sha256)
);
create index objects_touched on objects (touched_date);

create table snapshots (
    id           uuid primary key,
    project_id   uuid not null references projects,
    function_id  uuid not null references functions on delete cascade,
    runtime_id   uuid not null references runtimes,
    entry        text not null,
    digest       text not null,
    created_date timestamptz not null
);
create index snapshots_function on snapshots (function_id, id);

create table files (
    id          uuid primary key,
    snapshot_id uuid not null references snapshots on delete cascade,
    project_id  uuid not null,
    position    integer not null,
    path        text not null,
    language    text not null,
    sha256      text not null,
    size        bigint not null,
    unique (snapshot_id, path),
    foreign key (project_id, sha256) references objects
);
create index files_object on files (project_id, sha256);

create table versions (
    id           uuid primary key,
    project_id   uuid not null references projects,
    function_id  uuid not null references functions on delete cascade,
    number       integer not null check (number > 0),
    description  text not null,
    snapshot_id  uuid not null references snapshots,
    created_date timestamptz not null,
    unique (function_id, number)
);

create table nodes (
    id           uuid primary key,
    name         text not null unique,
    boot         uuid not null,
    inventory    jsonb not null,
    cpu          integer not null,
    memory       bigint not null,
    cpu_leased   integer not null default 0 check (cpu_leased >= 0),
    memory_leased bigint not null default 0 check (memory_leased >= 0),
    cordoned     boolean not null default false,
    lost         boolean not null default false, -- its slots were marked lost
    lease_until  timestamptz not null,
    created_date timestamptz not null
);

create table devices (
    node_id uuid not null references nodes on delete cascade,
    id      text not null,
    kind    text not null,
    device  jsonb not null,
    slot_id uuid, -- who holds it: one slot, which may hold several
    primary key (node_id, id)
);

create table deployments (
    id             uuid primary key,
    project_id     uuid not null references projects,
    function_id    uuid not null references functions on delete cascade,
    version_number integer not null,
    snapshot_id    uuid not null references snapshots,
    runtime_id     uuid not null references runtimes,
    slots          integer not null check (slots >= 0),
    resources      jsonb not null,
    status         text not null,
    message        text not null default '',
    created_date   timestamptz not null,
    updated_date   timestamptz not null
);
create index deployments_project on deployments (project_id, id);
create index deployments_function on deployments (function_id, id);

create sequence slot_generations;

create table slots (
    id            uuid primary key,
    node_id       uuid not null references nodes,
    deployment_id uuid references deployments, -- null for a slot on demand; it goes before its deployment, for it holds things
    project_id    uuid not null references projects,
    function_id   uuid not null,
    snapshot_id   uuid not null,
    runtime_id    uuid not null references runtimes,
    generation    bigint not null default nextval('slot_generations'),
    status        text not null check (status in ('preparing', 'ready', 'lost')),
    resources     jsonb not null,
    reason        text not null,
    created_date  timestamptz not null
);
create index slots_node on slots (node_id);
create index slots_deployment on slots (deployment_id);
create index slots_snapshot on slots (snapshot_id);
alter table devices add foreign key (slot_id) references slots on delete set null;
create index devices_slot on devices (slot_id);

-- Partitioned by ID, which begins with the time: retention drops partitions.
create table executions (
    id             uuid not null primary key,
    project_id     uuid not null,
    function_id    uuid not null,
    function_name  text not null,
    version_number integer not null,
    snapshot_id    uuid not null,
    runtime_id     uuid not null,
    lane           text not null,
    target         text not null,
    description    text not null,
    tags           text[] not null,
    input          bytea,
    input_sha256   text,
    input_size     bigint not null,
    shots          integer not null,
    seed           bigint not null,
    resources      jsonb not null,
    retries        integer not null,
    status         text not null,
    attempt        integer not null default 0,
    node_id        uuid,
    node_name      text not null default '',
    slot_id        uuid,
    generation     bigint not null default 0,
    reason         text not null default '',
    result         bytea,
    result_sha256  text,
    result_size    bigint not null default 0,
    error          jsonb,
    log            bytea,
    log_sha256     text,
    log_size       bigint not null default 0,
    timings        jsonb,
    cancel_asked   boolean not null default false,
    server_id      uuid, -- the server whose waiting activity is to be woken
    created_date   timestamptz not null,
    started_date   timestamptz,
    finished_date  timestamptz
) partition by range (id);
create index executions_project on executions (project_id, id);
create index executions_function on executions (function_id, id);
create index executions_open on executions (node_id, snapshot_id, id) where status in ('queued', 'running');

-- Which objects executions hold, so that the sweep of unreferenced objects
-- need not look through executions.
create table execution_objects (
    execution_id uuid not null,
    project_id   uuid not null,
    sha256       text not null,
    primary key (execution_id, sha256),
    foreign key (project_id, sha256) references objects
);
create index execution_objects_object on execution_objects (project_id, sha256);

-- Workflows that were promised in the transaction that wrote the row. The
-- server starts them at once; the sweeper starts what is left here.
create table outbox (
    kind         text not null check (kind in ('deploy', 'execute')),
    subject_id   uuid not null,
    created_date timestamptz not null default now(),
    primary key (kind, subject_id)
);
create index outbox_created on outbox (created_date);

create table idempotency_keys (
    project_id   uuid not null references projects on delete cascade,
    operation    text not null,
    key          text not null,
    subject_id   uuid not null, -- the ID that what is created gets, also when it is tried again
    body_digest  text not null,
    taken_until  timestamptz not null, -- while it is being answered
    status       integer,
    header       jsonb,
    answer       bytea,
    created_date timestamptz not null,
    primary key (project_id, operation, key)
);
create index idempotency_keys_created on idempotency_keys (created_date);

-- The certificate authority of the node channel; one row.
create table authority (
    one         boolean primary key default true check (one),
    certificate bytea not null,
    private_key bytea not null
);

create table node_tokens (
    id           uuid primary key,
    secret_hash  bytea not null,
    created_date timestamptz not null,
    expires_date timestamptz not null,
    used_date    timestamptz
);

create table servers (
    id          uuid primary key,
    channel     text not null, -- where nodes reach it, host:port
    lease_until timestamptz not null
);
