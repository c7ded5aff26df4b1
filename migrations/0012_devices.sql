-- +goose Up

-- What an operator says about a node, for placement and lists.
alter table nodes add column labels jsonb not null default '{}';
