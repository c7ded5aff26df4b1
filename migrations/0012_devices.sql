-- +goose Up

-- What operators say of a node: labels, for placement and lists; that it is to
-- be emptied; that its machine is off, until its agent answers again. loads is
-- what its devices do, as it has last said.
alter table nodes
    add column labels       jsonb not null default '{}',
    add column draining     boolean not null default false,
    add column fenced       boolean not null default false,
    add column loads        jsonb not null default '{}',
    add column updated_date timestamptz not null default now();

-- Why a device gets no slot, and the fault that an operator has last cleared:
-- the same one, told again by its node, does not count.
alter table devices
    add column fault   text,
    add column cleared text;
