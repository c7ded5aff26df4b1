-- 100,000 functions and 1,000,000 executions: half of them in the project $P,
-- the rest in 49 others. IDs are in the order of time, as they are when things
-- are created one after another.
set session_replication_role = replica; -- no foreign keys, no triggers
set synchronous_commit = off;

create function pg_temp.id_at(at timestamptz, n bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid
$$;

create temp table p as
    select 0 as n, '$P'::uuid as id union all select n, pg_temp.id_at(now() - interval '60 days', n) from generate_series(1, 49) n;
insert into projects (id, name, created_date) select id, 'filled-' || n, now() from p where n > 0;

create temp table f as
    select i, at, pg_temp.id_at(at, i) as id, (select id from p where n = case when i % 2 = 0 then 0 else 1 + i % 49 end) as project, i % 10 as kind
    from (select i, now() - (100001 - i) * interval '50 seconds' as at from generate_series(1, 100000) i) t;
create unique index on f (i);
analyze f;

insert into runtimes (id, sdk, sdk_version, python, platform, requirements, template_tag, status, created_date, updated_date)
    values (pg_temp.id_at(now(), 1), 'qiskit', '2.6.2', '3.11', 'linux/amd64', 'lists', 'Qiskit', 'available', now(), now());
insert into functions (id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, created_date, updated_date, label)
    select id, project, 'f-' || i, case when i % 1000 = 0 then 'quarterly ' else 'daily ' end || 'run of circuit ' || i, case kind when 0 then 'Cirq' when 1 then 'PennyLane' else 'Qiskit' end,
        case kind when 0 then 'cirq' when 1 then 'pennylane' else 'qiskit' end, case when i % 500 = 0 then '0.45.3' else '2.6.2' end,
        '{"Entry": "handler.handler", "Lane": "durable", "Reuse": "process", "Network": "none", "Gateway": "token", "Resources": {"cpu": 1000, "memory": 536870912, "timeout": 60000000000}}',
        2, at, at, 'team ' || i % 200 from f;
insert into snapshots (id, project_id, function_id, runtime_id, entry, digest, created_date) select id, project, id, pg_temp.id_at(now(), 1), 'handler.handler', 'd', at from f;
insert into versions (id, project_id, function_id, number, description, snapshot_id, created_date) select id, project, id, 1, '', id, at from f;

insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags, input, input_size, shots, seed, resources, retries, status, attempt,
        result, result_size, log, log_size, timings, usage, created_date, started_date, finished_date, alias, retry_of)
    select pg_temp.id_at(t.at, t.i), f.project, f.id, 'f-' || f.i, 1 + t.i % 3, f.id, pg_temp.id_at(now(), 1), case when t.i % 4 = 0 then 'express' else 'durable' end, case when t.i % 50 = 0 then 'gpu' else 'cpu' end,
        case when t.i % 1000 = 0 then 'nightly run' else 'by hand' end, case when t.i % 200 = 0 then array['paper', 'figure'] when t.i % 3 = 0 then array['paper'] else array[]::text[] end,
        '{"n":1}', 7, 1024, t.i, '{"cpu": 1000, "memory": 536870912, "timeout": 60000000000}', 0, case when t.i % 10000 = 1 then 'running' when t.i % 20 = 0 then 'failed' when t.i % 333 = 0 then 'timed_out' else 'succeeded' end, 1,
        '{"00":500}', 10, 'done', 4, '{"Queued": 1000000, "Placed": 1000000, "Started": 1000000, "Ran": 2000000, "Recorded": 1000000, "Total": 6000000}', '{"CPU": 2000000}', t.at, t.at, t.at,
        case when t.i % 25 = 0 then 'prod' else '' end, case when t.i % 5000 = 0 then f.id end
    from (select i, m.first + (now() - m.first) * (i / 1000000.0) as at from generate_series(1, 1000000) i, (select date_trunc('month', now()) - interval '1 month' as first) m) t
    join f on f.i = case when t.i % 10 = 0 then 100 else 1 + t.i::bigint * 7919 % 100000 end
    order by t.i;
set session_replication_role = default;
vacuum analyze;
