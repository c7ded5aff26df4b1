package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateExecution adds an execution and the promise of its workflow: queued, or
// running when the caller has reserved an idle slot for it, which makes the
// insert its claim. Adding the same ID again does nothing; created tells.
func (s *Store) CreateExecution(ctx context.Context, e warpket.Execution) (created bool, err error) {
	batch := &pgx.Batch{} // one round trip, one transaction
	batch.Queue(`with created as (insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
		input, input_sha256, input_size, shots, seed, resources, retries, status, server_id, created_date, attempt, node_id, node_name, slot_id, generation, reason, started_date, revision)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''), $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29) on conflict (id) do nothing returning id)
		insert into outbox (kind, subject_id) select 'execute', id from created`,
		e.ID, e.ProjectID, e.FunctionID, e.FunctionName, e.VersionNumber, e.SnapshotID, e.RuntimeID, e.Lane, e.Target, e.Description, e.Tags,
		e.Input.Inline, e.Input.SHA256, e.Input.Size, e.Shots, e.Seed, e.Resources, e.Retries, e.Status, orNull(e.ServerID), e.CreatedDate, e.Attempt, orNull(e.NodeID), e.NodeName, orNull(e.SlotID), e.Generation, e.Reason, e.StartedDate, e.Revision).
		Exec(func(tag pgconnTag) error { created = tag.RowsAffected() == 1; return nil })
	if e.Input.SHA256 != "" {
		batch.Queue(`insert into execution_objects (execution_id, project_id, sha256) values ($1, $2, $3) on conflict do nothing`, e.ID, e.ProjectID, e.Input.SHA256)
	}
	err = s.pool.SendBatch(ctx, batch).Close()
	return created, explain(err, "execution", e.ID)
}

// Execution gives an execution of the project.
func (s *Store) Execution(ctx context.Context, project, id warpket.ID) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `select `+executionColumns+` from executions where id = $1 and project_id = $2`, id, project)
	return e, explain(err, "execution", id)
}

// ExecutionByID gives an execution. It serves the system, not a caller, so it
// takes no tenant.
func (s *Store) ExecutionByID(ctx context.Context, id warpket.ID) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `select `+executionColumns+` from executions where id = $1`, id)
	return e, explain(err, "execution", id)
}

// ExecutionFilter narrows a list of executions. Zero fields do not.
type ExecutionFilter struct {
	FunctionID warpket.ID
	Version    int
	Status     warpket.Status
	Since      time.Time // created at or after
	Until      time.Time // created before
}

// Executions lists the executions of a project, without their inputs, results
// and logs.
func (s *Store) Executions(ctx context.Context, project warpket.ID, filter ExecutionFilter, page Page) ([]warpket.Execution, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	where, args := `project_id = $1 and id < $2`, []any{project, before, rows}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += fmt.Sprintf(" and "+condition, len(args))
	}
	if filter.FunctionID != "" {
		and(`function_id = $%d`, filter.FunctionID)
	}
	if filter.Version != 0 {
		and(`version_number = $%d`, filter.Version)
	}
	if filter.Status != "" {
		and(`status = $%d`, filter.Status)
	}
	if !filter.Since.IsZero() {
		and(`id >= $%d`, warpket.FirstIDAt(filter.Since))
	}
	if !filter.Until.IsZero() {
		and(`id < $%d`, warpket.FirstIDAt(filter.Until))
	}
	items, err := many(ctx, s.pool, scanExecution, `select `+executionHeadColumns+` from executions where `+where+` order by id desc limit $3`, args...)
	if err != nil {
		return nil, "", explain(err, "execution", "")
	}
	items, next := cut(items, rows, func(e warpket.Execution) warpket.ID { return e.ID })
	return items, next, nil
}

// OpenExecutions gives the IDs of up to a thousand executions after a given
// one that should have a workflow.
func (s *Store) OpenExecutions(ctx context.Context, after warpket.ID) ([]warpket.ID, error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from executions where status in ('queued', 'running') and id > $1 order by id limit 1000`, after)
	return ids, explain(err, "execution", "")
}

// ClaimExecution takes a queued execution for a slot, on behalf of a server:
// one conditional update, so only one of several callers gets it. claimed is
// false when it is no longer queued; it then comes back as it is.
func (s *Store) ClaimExecution(ctx context.Context, id warpket.ID, slot warpket.Slot, nodeName string, server warpket.ID, now time.Time) (e warpket.Execution, claimed bool, err error) {
	e, err = one(ctx, s.pool, scanExecution, `update executions set status = 'running', attempt = attempt + 1, node_id = $2, node_name = $3, slot_id = $4, generation = $5, reason = $6, started_date = $7, server_id = $8
		where id = $1 and status = 'queued' returning `+executionColumns, id, slot.NodeID, nodeName, slot.ID, slot.Generation, slot.Reason, now, server)
	if err == nil {
		return e, true, nil
	}
	if err = explain(err, "execution", id); warpket.KindOf(err) != warpket.NotFound {
		return e, false, err
	}
	e, err = s.ExecutionByID(ctx, id)
	return e, false, err
}

// UnclaimExecution puts a claimed execution back into the queue. The caller
// knows for certain that this attempt has not started in the slot of that
// generation, so it does not count. One whose end was asked for is cancelled.
func (s *Store) UnclaimExecution(ctx context.Context, id warpket.ID, attempt int, generation int64, cancelled warpket.Failure) error {
	_, err := s.pool.Exec(ctx, `update executions set status = case when cancel_asked then 'cancelled' else 'queued' end, finished_date = case when cancel_asked then now() end,
			error = case when cancel_asked then $4::jsonb end,
			attempt = attempt - 1, node_id = null, node_name = '', slot_id = null, generation = 0, reason = '', started_date = null
		where id = $1 and attempt = $2 and generation = $3 and status = 'running'`, id, attempt, generation, cancelled)
	return explain(err, "execution", id)
}

// Finish is how an attempt ended, with what is to be kept.
type Finish struct {
	ID       warpket.ID
	Attempt  int
	Status   warpket.Status
	Result   warpket.Payload
	Error    *warpket.Failure
	Log      warpket.Payload
	LogSize  int64
	Timings  warpket.Timings
	Again    bool         // put it into the queue for another attempt instead, unless someone has asked for its end
	FreeSlot warpket.Slot // the slot that has become free by it; may be zero
	NodeName string
}

// FinishExecution makes an execution final, or queues it again. The first final
// status wins: finished tells whether this one did. In the same round trip it
// gives the freed slot to the execution that has waited longest for one of its
// snapshot, that fits, and that was accepted at its revision or before.
func (s *Store) FinishExecution(ctx context.Context, f Finish, now time.Time) (finished bool, next *Woken, err error) {
	batch := &pgx.Batch{}
	if f.Again {
		batch.Queue(`update executions set status = 'queued', node_id = null, node_name = '', slot_id = null, generation = 0, reason = '', started_date = null
			where id = $1 and attempt = $2 and status = 'running' and not cancel_asked`, f.ID, f.Attempt)
	}
	batch.Queue(`update executions set status = $3, result = $4, result_sha256 = nullif($5, ''), result_size = $6, error = $7,
			log = $8, log_sha256 = nullif($9, ''), log_size = $10, timings = $11, finished_date = $12
		where id = $1 and attempt = $2 and status in ('queued', 'running') and (cancel_asked or not $13)`,
		f.ID, f.Attempt, f.Status, f.Result.Inline, f.Result.SHA256, f.Result.Size, f.Error, f.Log.Inline, f.Log.SHA256, f.LogSize, f.Timings, now, f.Again).
		Exec(func(tag pgconnTag) error { finished = tag.RowsAffected() == 1; return nil })
	for _, p := range []warpket.Payload{f.Result, f.Log} {
		if p.SHA256 != "" {
			batch.Queue(`insert into execution_objects (execution_id, project_id, sha256) select id, project_id, $2 from executions
				where id = $1 and $2 in (result_sha256, log_sha256) on conflict do nothing`, f.ID, p.SHA256)
		}
	}
	if !f.Again { // nothing is left to drive
		batch.Queue(`delete from outbox where kind = 'execute' and subject_id = $1`, f.ID)
	}
	if f.FreeSlot.ID != "" {
		batch.Queue(takeNext, f.FreeSlot.SnapshotID, f.FreeSlot.NodeID, f.NodeName, f.FreeSlot.ID, f.FreeSlot.Generation, f.FreeSlot.Reason, now, f.FreeSlot.Resources.CPU, f.FreeSlot.Resources.Memory, f.FreeSlot.Revision).QueryRow(wokenInto(&next))
	}
	err = s.pool.SendBatch(ctx, batch).Close()
	return finished, next, explain(err, "execution", f.ID)
}

// Woken is a waiting execution that has been given a slot.
type Woken struct {
	ID       warpket.ID
	ServerID warpket.ID // where its activity waits
}

const takeNext = `update executions set status = 'running', attempt = attempt + 1, node_id = $2, node_name = $3, slot_id = $4, generation = $5, reason = $6, started_date = $7
	where id = (select id from executions where node_id is null and snapshot_id = $1 and status = 'queued' and server_id is not null
		and (resources->>'cpu')::int <= $8 and (resources->>'memory')::bigint <= $9 and revision <= $10 order by id limit 1 for update skip locked)
	returning id, server_id`

func wokenInto(next **Woken) func(pgx.Row) error {
	return func(row pgx.Row) error {
		var w Woken
		err := row.Scan(&w.ID, &w.ServerID)
		if err == nil {
			*next = &w
		}
		return ignoreNoRows(err)
	}
}

// TakeNext gives a slot that has become free to the execution that has waited
// longest for one of its snapshot. It is nil when none waits.
func (s *Store) TakeNext(ctx context.Context, slot warpket.Slot, nodeName string, now time.Time) (*Woken, error) {
	var next *Woken
	err := wokenInto(&next)(s.pool.QueryRow(ctx, takeNext, slot.SnapshotID, slot.NodeID, nodeName, slot.ID, slot.Generation, slot.Reason, now, slot.Resources.CPU, slot.Resources.Memory, slot.Revision))
	return next, explain(err, "slot", slot.ID)
}

// WaitHere says that the activity of this execution now waits in that server;
// so the promise of its workflow is kept.
func (s *Store) WaitHere(ctx context.Context, id, server warpket.ID) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `with kept as (delete from outbox where kind = 'execute' and subject_id = $1)
		update executions set server_id = $2 where id = $1 returning `+executionColumns, id, server)
	return e, explain(err, "execution", id)
}

// WakeElsewhere tells the server in which an execution waits that it has
// changed.
func (s *Store) WakeElsewhere(ctx context.Context, id warpket.ID) error {
	_, err := s.pool.Exec(ctx, `select pg_notify('warpket', $1)`, string(ExecutionWoken)+":"+string(id))
	return explain(err, "execution", id)
}

// AskCancel records that someone wants the end of an execution. One that is
// queued is final at once; a running one has to be ended on its node.
func (s *Store) AskCancel(ctx context.Context, project, id warpket.ID, failure warpket.Failure, now time.Time) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `update executions set cancel_asked = true,
			status = case when status = 'queued' then 'cancelled' else status end,
			error = case when status = 'queued' then $3::jsonb else error end,
			finished_date = case when status = 'queued' then $4 else finished_date end
		where id = $1 and project_id = $2 and status in ('queued', 'running') returning `+executionColumns, id, project, failure, now)
	if err == nil {
		return e, nil
	}
	if err = explain(err, "execution", id); warpket.KindOf(err) != warpket.NotFound {
		return e, err
	}
	return s.Execution(ctx, project, id)
}

// ExtendPartitions makes the partitions of executions for this month and the
// next two.
func (s *Store) ExtendPartitions(ctx context.Context) error {
	now := time.Now().UTC()
	for i := range 4 {
		from := time.Date(now.Year(), now.Month()-1+time.Month(i), 1, 0, 0, 0, 0, time.UTC)
		to := from.AddDate(0, 1, 0)
		sql := fmt.Sprintf(`create table if not exists executions_%s partition of executions for values from ('%s') to ('%s')`,
			from.Format("200601"), warpket.FirstIDAt(from), warpket.FirstIDAt(to))
		if _, err := s.pool.Exec(ctx, sql); err != nil && !alreadyThere(err) {
			return explain(err, "partition", from.Format("2006-01"))
		}
	}
	return nil
}

const executionHeadColumns = `id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
	null::bytea, coalesce(input_sha256, ''), input_size, shots, seed, resources, retries, status, attempt, coalesce(node_id::text, ''), node_name, coalesce(slot_id::text, ''), generation, reason,
	null::bytea, coalesce(result_sha256, ''), result_size, error, null::bytea, coalesce(log_sha256, ''), log_size, coalesce(timings, '{}'), cancel_asked, coalesce(server_id::text, ''), created_date, started_date, finished_date, revision`

const executionColumns = `id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
	input, coalesce(input_sha256, ''), input_size, shots, seed, resources, retries, status, attempt, coalesce(node_id::text, ''), node_name, coalesce(slot_id::text, ''), generation, reason,
	result, coalesce(result_sha256, ''), result_size, error, log, coalesce(log_sha256, ''), log_size, coalesce(timings, '{}'), cancel_asked, coalesce(server_id::text, ''), created_date, started_date, finished_date, revision`

func scanExecution(row pgx.CollectableRow) (e warpket.Execution, err error) {
	err = row.Scan(&e.ID, &e.ProjectID, &e.FunctionID, &e.FunctionName, &e.VersionNumber, &e.SnapshotID, &e.RuntimeID, &e.Lane, &e.Target, &e.Description, &e.Tags,
		&e.Input.Inline, &e.Input.SHA256, &e.Input.Size, &e.Shots, &e.Seed, &e.Resources, &e.Retries, &e.Status, &e.Attempt, &e.NodeID, &e.NodeName, &e.SlotID, &e.Generation, &e.Reason,
		&e.Result.Inline, &e.Result.SHA256, &e.Result.Size, &e.Error, &e.Log.Inline, &e.Log.SHA256, &e.LogSize, &e.Timings, &e.CancelAsked, &e.ServerID, &e.CreatedDate, &e.StartedDate, &e.FinishedDate, &e.Revision)
	return e, err
}
