-- Fills the tables that lists read: 12,000 rows in one project, as many in another.
set session_replication_role = replica; -- no foreign keys, no triggers

create function id_at(at timestamptz, n bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid
$$;
create function known(hex text) returns uuid language sql immutable as $$
    select ('00000000-0000-7000-8000-' || lpad(hex, 12, '0'))::uuid
$$;

-- Rows i of kind k, oldest first, over the last hundred days. Every second
-- is in another project.
create temp table n as
    select i, now() - (24000 - i) * interval '5 minutes' as at, id_at(now() - (24000 - i) * interval '5 minutes', i) as id,
        case when i % 2 = 0 then known('2') else known('1') end as project,
        case when i % 2 = 0 then known('f2') else known('f1') end as function,
        i % 100 = 1 as rare
    from generate_series(1, 24000) i;
analyze n;

insert into projects (id, name, created_date) values (known('1'), 'one filled', now()), (known('2'), 'two filled', now());
insert into projects (id, name, created_date) select id, 'p-' || i, at from n;
insert into runtimes (id, sdk, sdk_version, python, platform, template_tag, status, created_date, updated_date)
    values (known('a1'), 'qiskit', '1.0.0', '3.11', 'linux/amd64', 'Qiskit', 'available', now(), now());
insert into runtimes (id, sdk, sdk_version, python, platform, requirements, template_tag, status, created_date, updated_date, project_id, name, public, base_id)
    select id, 'qiskit', '1.0.0', '3.11', 'linux/amd64', id::text, 'Qiskit', 'available', at, at, case when i % 3 > 0 then project end, 'r-' || i, i % 7 = 0, known('a1') from n;

insert into functions (id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, created_date, updated_date, label)
    values (known('f1'), known('1'), 'busy', '', 'Qiskit', 'qiskit', '1.0.0', '{}', 2, now(), now(), ''), (known('f2'), known('2'), 'busy', '', 'Qiskit', 'qiskit', '1.0.0', '{}', 2, now(), now(), '');
insert into functions (id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, created_date, updated_date, label)
    select id, project, 'f-' || i, 'the function number ' || i, case when rare then 'Cirq' else 'Qiskit' end, case when rare then 'cirq' else 'qiskit' end, '1.0.0', '{}', 2, at, at, 'label ' || i % 1000 from n;
insert into snapshots (id, project_id, function_id, runtime_id, entry, digest, created_date) select id, project, function, known('a1'), 'handler.handler', 'd', at from n;
insert into files (id, snapshot_id, project_id, position, path, language, sha256, size) select id, id, project, 0, 'handler.py', 'python', 's', 1 from n;
insert into versions (id, project_id, function_id, number, description, snapshot_id, created_date) select id, project, function, i, '', id, at from n;

insert into nodes (id, name, boot, inventory, cpu, memory, lease_until, created_date) select id, 'n-' || i, id, '{}', 1, 1, now(), at from n where i > 20000;
insert into devices (node_id, id, kind, device) select id, 'd', 'gpu', '{}' from nodes;
insert into deployments (id, project_id, function_id, version_number, snapshot_id, runtime_id, slots, resources, status, created_date, updated_date)
    select id, project, case when i > 23900 then function else id end, i % 3, id, known('a1'), 1, '{}', case when rare then 'failed' else 'ready' end, at, at from n;
insert into slots (id, node_id, deployment_id, project_id, function_id, snapshot_id, runtime_id, status, resources, reason, created_date)
    select id, (select id from nodes limit 1), id, project, case when i > 22000 then function else id end, id, known('a1'), 'ready', '{}', '', at from n;

insert into aliases (id, project_id, name, description, function_id, created_date, updated_date) select id, project, 'alias-' || i, '', function, at, at from n;
insert into alias_versions (alias_id, function_id, position, version_number, weight) select id, function, 0, i % 3, 1 from n;
insert into webhooks (id, project_id, description, function_id, signature, rate_per_minute, sync, created_date, updated_date) select id, project, '', function, '', 60, false, at, at from n where i % 3 = 0;
insert into webhooks (id, project_id, description, alias_id, signature, rate_per_minute, sync, created_date, updated_date) select id, project, '', id, '', 60, false, at, at from n where i % 3 > 0;
insert into schedules (id, project_id, function_id, name, version_number, draft, alias, input, description, pattern, time_zone, status, created_date, updated_date)
    select id, project, function, 's-' || i, 1, false, '', '', '', '@hourly', 'UTC', case when rare then 'paused' else 'running' end, at, at from n;

insert into members (id, project_id, name, role, created_date, updated_date) values (known('c1'), known('1'), 'ada', 'member', now(), now());
insert into members (id, project_id, name, role, created_date, updated_date) select id, project, 'm-' || i, 'viewer', at, at from n;
insert into tokens (id, project_id, role, name, secret_hash, created_date, member_id) select id, project, 'member', 't-' || i, '', at, case when i % 1000 = 1 then known('c1') end from n;
insert into secrets (id, project_id, name, sealed, size, created_date, updated_date) select id, project, 'S_' || i, '', 1, at, at from n;
insert into function_secrets (function_id, variable, secret_id) select function, 'V_' || i, id from n;
insert into audit (id, project_id, token_id, token_name, member, role, operation, subject, address, agent, status, created_date)
    select id, project, case when rare then id else known('b1') end, '', case when rare then 'ada' else '' end, 'member', case when rare then 'delete-token' else 'create-function' end, 'functions/' || i % 500, '', '', 200, at from n;
insert into usage_hours (project_id, hour, function_id, succeeded, failed, cancelled, timed_out, lost, cpu_seconds, memory_seconds, gpu_seconds, slot_seconds)
    select project, date_trunc('hour', at), case when i % 12 < 2 then function else id end, 1, 0, 0, 0, 0, 1, 1, 0, 1 from n;

-- Of executions every tenth failed, twice as many timed out, and few of the oldest were lost.
insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags, input_size, shots, seed, resources, retries, status, created_date, alias, retry_of)
    select id_at(date_trunc('month', now()) + (at - now() + interval '100 days') * 0.001, i), project, function, 'busy', i % 3, id, known('a1'), 'durable', 'cpu', case when rare then 'nightly' else '' end,
        case when i % 3 = 0 then array['even'] else array[]::text[] end, 0, 1, 1, '{}', 0, case when i < 50 then 'lost' when i % 10 = 1 then 'failed' when i % 10 in (3, 5) then 'timed_out' else 'succeeded' end, at,
        case when i % 20 = 1 then 'prod' else '' end, case when rare then known('e1') end from n;

set session_replication_role = default;
analyze;
