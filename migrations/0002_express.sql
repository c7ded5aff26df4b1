-- +goose Up

alter table executions
    add column usage jsonb,
    add column isolation text not null default '',
    add column watched boolean not null default false; -- someone in another server than the one that drives it waits for its end

-- Freed slots are handed on in memory, so open executions are looked for by ID only.
drop index executions_open;
create index executions_open on executions (id) where status in ('queued', 'running');

alter table servers add column peer text not null default ''; -- where other servers reach it, host:port
