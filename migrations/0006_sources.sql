-- +goose Up

-- Where the files of a snapshot came from; null for files that were given as
-- such, and for images.
alter table snapshots add column source jsonb;

-- The history of a function as Git shows it: one commit for each version. It
-- outlives versions, so that clones stay valid when one is deleted.
create table commits (
    function_id  uuid not null references functions on delete cascade,
    number       integer not null check (number > 0),
    hash         text not null,
    primary key (function_id, number)
);

-- What these commits are made of. Commits and trees are kept here; the bytes of
-- a blob are an object of the object store.
create table git_objects (
    function_id  uuid not null references functions on delete cascade,
    hash         text not null,
    kind         text not null check (kind in ('commit', 'tree', 'blob')),
    content      bytea,
    project_id   uuid not null,
    sha256       text,
    size         bigint not null,
    primary key (function_id, hash),
    foreign key (project_id, sha256) references objects,
    check ((kind = 'blob') = (sha256 is not null) and (kind = 'blob') = (content is null))
);
create index git_objects_object on git_objects (project_id, sha256) where sha256 is not null;
