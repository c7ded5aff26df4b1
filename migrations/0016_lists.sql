-- +goose Up

-- Which functions use a secret as credentials: lists of secrets tell.
create index functions_credentials on functions (project_id, (settings->>'Credentials')) where settings->>'Credentials' <> '';
