-- +goose Up

create extension if not exists pg_trgm;

-- A draft is the snapshot that the next version would have. A function without
-- one of its own has its newest version's.
alter table functions
    add column label text not null default '', -- a freer name, for people and other wires
    add column draft_id uuid references snapshots;
create index functions_draft on functions (draft_id) where draft_id is not null;

-- One for each filter of the list.
create index functions_label on functions (project_id, label, id);
create index functions_template on functions (project_id, template_tag, id);
create index functions_sdk on functions (project_id, sdk, id);
create index functions_sdk_version on functions (project_id, sdk_version, id);
create index functions_updated on functions (project_id, updated_date);
create index functions_text on functions using gin (name gin_trgm_ops, label gin_trgm_ops, description gin_trgm_ops);

-- Since when a snapshot is neither a version's nor a draft; the sweep looks at
-- those only.
alter table snapshots add column unused_date timestamptz;
create index snapshots_unused on snapshots (unused_date) where unused_date is not null;

alter table versions add column updated_date timestamptz; -- null until it is changed
create index versions_function on versions (function_id, id);
create index versions_snapshot on versions (snapshot_id);
create index deployments_snapshot on deployments (snapshot_id);
create index slots_function on slots (function_id, id);

-- How many executions there were, of those with an ID below the one in
-- execution_counts_until. The rest is counted where it is asked for.
create table execution_counts (
    function_id    uuid not null references functions on delete cascade,
    version_number integer not null, -- 0 for drafts
    count          bigint not null,
    primary key (function_id, version_number)
);
create table execution_counts_until (
    one boolean primary key default true check (one),
    id  uuid not null
);
insert into execution_counts_until (id) values ('00000000-0000-0000-0000-000000000000');
