-- +goose Up

-- Schedules by the alias that they name.
create index schedules_alias on schedules (project_id, alias, id) where alias <> '';

-- Commits and trees of functions' histories are kept here and not as objects,
-- and count with what a project stores.
create constraint trigger count_history after insert on git_objects
    deferrable initially deferred for each row when (new.kind <> 'blob') execute function count_storage();
create constraint trigger forget_history after delete on git_objects
    deferrable initially deferred for each row when (old.kind <> 'blob') execute function count_storage();
insert into project_storage (project_id, bytes) select g.project_id, sum(g.size) from git_objects g join projects p on p.id = g.project_id where g.kind <> 'blob' group by g.project_id
    on conflict (project_id) do update set bytes = project_storage.bytes + excluded.bytes;
