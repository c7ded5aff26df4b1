-- +goose Up

-- Whether executions beyond a deployment's slots get slots on demand.
alter table deployments add column elastic boolean not null default false;
