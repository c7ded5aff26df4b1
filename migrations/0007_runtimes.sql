-- +goose Up

-- A runtime that somebody created has a name. It is made of a build of an SDK
-- (base_id), which it may share with others, or of an image. In the place of
-- requirements its row has its own ID, so that the key of builds stays unique.
alter table runtimes
    add column name text not null default '',
    add column description text not null default '',
    add column public boolean not null default false, -- whether all projects see it
    add column trusted boolean not null default true,
    add column base_id uuid references runtimes,
    add column image jsonb,
    add column credentials text not null default '', -- name of the secret that the registry of its image is given
    add column revision integer not null default 1; -- grows when it is made of something else
create index runtimes_project on runtimes (project_id, id);
create index runtimes_shared on runtimes (id) where public or project_id is null;
create index runtimes_base on runtimes (base_id) where base_id is not null;

alter table functions add column runtime_id uuid references runtimes; -- that it was created with
create index functions_runtime on functions (runtime_id) where runtime_id is not null;

-- What a node keeps ready, by runtime: warpket.KeptReady as JSON.
alter table nodes add column kept_ready jsonb not null default '[]';

alter table outbox drop constraint outbox_kind_check; -- there are more kinds
