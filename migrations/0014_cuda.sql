-- +goose Up

-- What a compiler has made of a snapshot's files, for a set of architectures:
-- the program is an object, unless the files do not compile.
create table builds (
    id            uuid primary key,
    project_id    uuid not null references projects on delete cascade,
    snapshot_id   uuid not null references snapshots on delete cascade,
    architectures text[] not null,
    status        text not null,
    message       text not null default '',
    log           text not null default '',
    sha256        text,
    size          bigint not null default 0,
    created_date  timestamptz not null,
    updated_date  timestamptz not null,
    unique (snapshot_id, architectures)
);
create index builds_project on builds (project_id);
create index builds_object on builds (project_id, sha256) where sha256 is not null;

-- For which target the slots of a deployment are.
alter table deployments add column target text not null default '';
