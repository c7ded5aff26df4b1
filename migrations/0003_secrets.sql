-- +goose Up

alter table projects add column allow_egress boolean not null default false;

-- Each project's own key, wrapped by the operator's, which is not here.
create table project_keys (
    project_id uuid primary key references projects on delete cascade,
    wrapped    bytea not null
);

create table secrets (
    id           uuid primary key,
    project_id   uuid not null references projects on delete cascade,
    name         text not null,
    sealed       bytea not null, -- by the project's key, for this name
    size         integer not null, -- bytes of the value
    created_date timestamptz not null,
    updated_date timestamptz not null,
    unique (project_id, name)
);

-- revision grows with each change of what a slot is made of besides the code.
alter table functions add column revision integer not null default 0;
alter table functions add column variables jsonb not null default '{}';

create table function_secrets (
    function_id uuid not null references functions on delete cascade,
    variable    text not null,
    secret_id   uuid not null references secrets,
    primary key (function_id, variable)
);
create index function_secrets_secret on function_secrets (secret_id);

alter table slots add column revision integer not null default 0;
alter table executions add column revision integer not null default 0; -- of its function when it was accepted

-- A runtime with a version's own requirements is its project's alone.
alter table runtimes add column project_id uuid references projects on delete cascade;
alter table runtimes add column lines text[] not null default '{}'; -- of requirements.txt
