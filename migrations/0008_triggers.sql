-- +goose Up

-- A name for one version of a function, or for several with weights.
create table aliases (
    id           uuid primary key,
    project_id   uuid not null references projects on delete cascade,
    name         text not null,
    description  text not null,
    function_id  uuid not null references functions on delete cascade,
    created_date timestamptz not null,
    updated_date timestamptz not null,
    unique (project_id, name),
    unique (id, function_id)
);
create index aliases_project on aliases (project_id, id);
create index aliases_function on aliases (function_id, id);

create table alias_versions (
    alias_id       uuid not null,
    function_id    uuid not null, -- the alias's
    position       integer not null,
    version_number integer not null check (version_number >= 0), -- 0 for the draft
    published      integer generated always as (nullif(version_number, 0)) stored,
    weight         integer not null check (weight >= 0),
    primary key (alias_id, version_number),
    constraint alias_versions_alias foreign key (alias_id, function_id) references aliases (id, function_id) on delete cascade,
    constraint alias_versions_version foreign key (function_id, published) references versions (function_id, number)
);
create index alias_versions_version on alias_versions (function_id, version_number);

create table webhooks (
    id              uuid primary key,
    project_id      uuid not null references projects on delete cascade,
    description     text not null,
    function_id     uuid references functions on delete cascade, -- null for an alias
    version_number  integer check (version_number >= 0), -- null for the newest, 0 for the draft
    published       integer generated always as (nullif(version_number, 0)) stored,
    alias_id        uuid,
    signature       text not null, -- how requests are signed; empty when they are not
    sealed          bytea, -- what they are signed with, by the project's key, for this webhook
    rate_per_minute integer not null,
    sync            boolean not null,
    created_date    timestamptz not null,
    updated_date    timestamptz not null,
    check ((function_id is null) <> (alias_id is null)),
    check (alias_id is null or version_number is null),
    check ((signature = '') = (sealed is null)),
    constraint webhooks_alias foreign key (alias_id) references aliases,
    constraint webhooks_version foreign key (function_id, published) references versions (function_id, number)
);
create index webhooks_project on webhooks (project_id, id);
create index webhooks_function on webhooks (function_id, id);
create index webhooks_alias on webhooks (alias_id, id);

-- How an execution was asked for: by which name, and by what if not by a caller of the API.
alter table executions
    add column alias text not null default '',
    add column origin text not null default '',
    add column origin_id uuid;
create index executions_alias on executions (project_id, alias, id) where alias <> '';
