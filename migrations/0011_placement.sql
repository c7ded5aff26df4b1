-- +goose Up

-- Why a slot is where it is, what it keeps from others (see Resources.Charge),
-- and what it is to make room for when what runs in it has ended.
alter table slots
    add column decision  jsonb,
    add column charge    double precision not null default 0,
    add column yields_to uuid;
create index slots_project on slots (project_id);
create index slots_runtime on slots (runtime_id);
create index slots_priority on slots ((coalesce((resources->>'priority')::int, 0)));
create index slots_yielding on slots (yields_to) where yields_to is not null;

-- Projects share the fleet by weight. A priority counts among a project's own
-- work; beside that of others it counts up to max_priority.
alter table projects
    add column weight       double precision not null default 1 check (weight > 0),
    add column max_priority integer not null default 0;

-- What projects have had of the fleet lately: charges that halve every hour.
create table project_use (
    project_id   uuid primary key references projects on delete cascade,
    used         double precision not null,
    updated_date timestamptz not null
);

-- Deployments, and snapshots with executions, that wait for room, and the
-- server that waits for them: a row counts while that one is listed.
create table waits (
    subject_id uuid not null,
    server_id  uuid not null,
    kind       text not null check (kind in ('deployment', 'snapshot')),
    project_id uuid not null references projects on delete cascade,
    need       jsonb not null,
    reason     text not null,
    decision   jsonb,
    since      timestamptz not null default now(),
    primary key (subject_id, server_id)
);

alter table executions add column devices text[] not null default '{}';
