-- +goose Up

-- What a snapshot runs that comes as an OCI image: its reference, as given and
-- with its digest, and the command. Such a snapshot has no files.
alter table snapshots add column image jsonb;
