-- +goose Up

alter table projects
    add column description text not null default '',
    add column updated_date timestamptz not null default now(),
    add column deleted_date timestamptz; -- from then on nobody reaches it, and the sweeper takes it apart
create index projects_deleted on projects (id) where deleted_date is not null;

-- People, by name: tokens that are issued to one end with it.
create table members (
    id           uuid primary key,
    project_id   uuid not null references projects on delete cascade,
    name         text not null,
    email        text not null default '',
    role         text not null check (role in ('viewer', 'member', 'admin')),
    created_date timestamptz not null,
    updated_date timestamptz not null,
    unique (project_id, name)
);
create index members_project on members (project_id, id);

alter table tokens
    add column description text not null default '',
    add column functions uuid[], -- the only ones that it reaches; null for all of the project
    add column member_id uuid references members on delete set null, -- null for the project's own
    add column expires_date timestamptz,
    add column last_used_date timestamptz;
create index tokens_member on tokens (member_id) where member_id is not null;

-- Bounds by name. What a project's row leaves open the row without a project
-- has, and what that leaves open is not bounded.
create table quotas (
    project_id   uuid references projects on delete cascade,
    limits       jsonb not null,
    updated_date timestamptz not null
);
create unique index quotas_project on quotas (coalesce(project_id, '00000000-0000-0000-0000-000000000000'::uuid));

-- The bytes of each project's objects, kept by a trigger so that no statement
-- can forget to. It runs when a transaction commits: a sweep that removes
-- objects one by one holds up nobody who stores others.
create table project_storage (
    project_id uuid primary key references projects on delete cascade,
    bytes      bigint not null
);
-- +goose StatementBegin
create function count_storage() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into project_storage (project_id, bytes) values (new.project_id, new.size)
            on conflict (project_id) do update set bytes = project_storage.bytes + excluded.bytes;
    else
        update project_storage set bytes = bytes - old.size where project_id = old.project_id;
    end if;
    return null;
end
$$;
-- +goose StatementEnd
create constraint trigger count_storage after insert or delete on objects
    deferrable initially deferred for each row execute function count_storage();
insert into project_storage (project_id, bytes) select project_id, sum(size) from objects group by project_id;

-- What was used, in the transaction that says so. Rows are moved from here into
-- the hours every minute, so there are few, and no index.
create table usage_events (
    project_id     uuid not null,
    function_id    uuid not null,
    date           timestamptz not null,
    status         text, -- how an execution ended; null for slots, and for an attempt that is followed by another
    cpu_seconds    double precision not null default 0,
    memory_seconds double precision not null default 0, -- gigabytes by seconds
    gpu_seconds    double precision not null default 0,
    slot_seconds   double precision not null default 0
);

-- These outlive executions, functions and projects.
create table usage_hours (
    project_id     uuid not null,
    hour           timestamptz not null,
    function_id    uuid not null,
    succeeded      bigint not null,
    failed         bigint not null,
    cancelled      bigint not null,
    timed_out      bigint not null,
    lost           bigint not null,
    cpu_seconds    double precision not null,
    memory_seconds double precision not null,
    gpu_seconds    double precision not null,
    slot_seconds   double precision not null,
    primary key (project_id, hour, function_id)
);
create table usage_months (
    project_id  uuid not null,
    month       timestamptz not null,
    cpu_seconds double precision not null,
    gpu_seconds double precision not null,
    primary key (project_id, month)
);

-- +goose StatementBegin
create function count_execution() returns trigger language plpgsql as $$
begin
    insert into usage_events (project_id, function_id, date, status, cpu_seconds, memory_seconds) values (
        new.project_id, new.function_id, coalesce(new.finished_date, now()), nullif(new.status, 'queued'),
        coalesce((new.usage->>'CPU')::double precision / 1e9, 0),
        coalesce((old.resources->>'memory')::double precision / 1e9 * greatest(0, extract(epoch from coalesce(new.finished_date, now()) - old.started_date)), 0));
    return null;
end
$$;
-- +goose StatementEnd
-- It counts each end, and each attempt that is followed by another; one that
-- was taken back without having started is none.
create trigger count_execution after update of status on executions for each row
    when (old.status in ('queued', 'running') and (new.status not in ('queued', 'running') or old.status = 'running' and new.status = 'queued' and new.attempt = old.attempt))
    execute function count_execution();

alter table slots add column counted_date timestamptz not null default now(); -- up to when its seconds are counted
-- +goose StatementBegin
create function count_slot() returns trigger language plpgsql as $$
begin
    if old.status <> 'lost' then
        insert into usage_events (project_id, function_id, date, gpu_seconds, slot_seconds)
            select old.project_id, old.function_id, now(), seconds * (select count(*) from devices where slot_id = old.id and kind = 'gpu'), seconds
            from (select greatest(0, extract(epoch from now() - old.counted_date)) as seconds) held;
    end if;
    return old;
end
$$;
-- +goose StatementEnd
create trigger count_slot before delete on slots for each row execute function count_slot(); -- before, for then it still holds its devices

-- Who did what. A row is written before the operation and completed after it,
-- so one without a status may have taken effect.
create table audit (
    id           uuid primary key,
    project_id   uuid, -- in which the caller worked
    token_id     uuid not null,
    token_name   text not null,
    member       text not null,
    role         text not null,
    operation    text not null,
    subject      text collate "C" not null,
    address      text not null,
    agent        text not null,
    status       integer,
    created_date timestamptz not null
);
create index audit_project on audit (project_id, id);
create index audit_token on audit (project_id, token_id, id);
create index audit_operation on audit (project_id, operation, id);
create index audit_subject on audit (project_id, subject, id);

alter table executions add column created_by uuid; -- the token that asked for it
