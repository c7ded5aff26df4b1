-- +goose Up

-- Deployments that lack slots or may: news of room are for them, and come often,
-- while those that are over stay for ever.
create index deployments_open on deployments (status, project_id) where status not in ('failed', 'detached');

-- Those of a status, among the many that are over.
create index deployments_status on deployments (project_id, status, id);
