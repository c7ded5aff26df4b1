-- +goose Up

create table schedules (
    id                uuid primary key,
    project_id        uuid not null references projects,
    function_id       uuid not null references functions on delete cascade,
    name              text not null,
    version_number    integer not null, -- 0: the newest, or the draft
    draft             boolean not null,
    alias             text not null, -- whose version it takes when it fires; empty for none
    input             bytea not null,
    description       text not null, -- of its executions
    pattern           text not null,
    time_zone         text not null,
    first_time        timestamptz,
    count             integer,
    status            text not null check (status in ('running', 'paused', 'done', 'cancelled')),
    next_time         timestamptz, -- null unless it runs
    last_time         timestamptz,
    last_execution_id uuid,
    last_error        text not null default '',
    created_date      timestamptz not null,
    updated_date      timestamptz not null
);
create index schedules_project on schedules (project_id, id);
create index schedules_function on schedules (function_id, id);
create index schedules_open on schedules (id) where status in ('running', 'paused');
create index schedules_next on schedules (next_time) where status = 'running';

-- There are more kinds: a schedule is to be made in Temporal as its record
-- says, a callback is to be sent.
alter table outbox drop constraint if exists outbox_kind_check;

alter table executions
    add column retry_of uuid,
    add column callback jsonb; -- null: nobody wants to be called

-- Lists walk an index in the order of IDs: by project, by function, or by
-- status. What succeeded is most of all, and has no place in the last one, so
-- that it costs an execution no more than the one for what is open did.
create index executions_status on executions (status, project_id, id) where status <> 'succeeded';
drop index executions_open;
