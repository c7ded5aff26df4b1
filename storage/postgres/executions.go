package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateExecution adds an execution: queued, or running when the caller has
// reserved an idle slot for it, which makes the insert its claim. A durable one
// comes with the promise of its workflow. An express one does not wait for the
// disk: when Postgres crashes, whoever drives it writes it again. Adding the
// same ID again does nothing; created tells.
func (s *Store) CreateExecution(ctx context.Context, e warpket.Execution) (created bool, err error) {
	sql := insertExecution + ` select ` + executionValues + ` on conflict (id) do nothing`
	if e.Lane == warpket.Express {
		sql = insertExecution + ` select ` + executionValues + ` from (select set_config('synchronous_commit', 'off', true)) relaxed on conflict (id) do nothing`
	}
	late := time.Since(e.ID.Time()) > lateAfter
	promise := `insert into outbox (kind, subject_id) select 'execute', id from created`
	switch {
	case late && e.Lane == warpket.Express:
		sql = counting(sql) + ` select from created`
	case late:
		sql = counting(sql) + `, promised as (` + promise + `) select from created`
	case e.Lane != warpket.Express:
		sql = `with created as (` + sql + ` returning id) ` + promise
	}
	batch := &pgx.Batch{} // one round trip, one transaction
	batch.Queue(sql, executionArgs(e)...).
		Exec(func(tag pgconnTag) error { created = tag.RowsAffected() == 1; return nil })
	if e.Input.SHA256 != "" {
		batch.Queue(`insert into execution_objects (execution_id, project_id, sha256) values ($1, $2, $3) on conflict do nothing`, e.ID, e.ProjectID, e.Input.SHA256)
	}
	err = s.pool.SendBatch(ctx, batch).Close()
	return created, explain(err, "execution", e.ID)
}

// executionArgs are the arguments of executionValues. IDs are plain strings: pgx
// tries other ways to encode our own type each time.
func executionArgs(e warpket.Execution) []any {
	return []any{
		string(e.ID), string(e.ProjectID), string(e.FunctionID), e.FunctionName, e.VersionNumber, string(e.SnapshotID), string(e.RuntimeID), e.Lane, e.Target, e.Description, e.Tags,
		e.Input.Inline, e.Input.SHA256, e.Input.Size, e.Shots, e.Seed, e.Resources, e.Retries, e.Status, orNull(e.ServerID), e.CreatedDate, e.Attempt, orNull(e.NodeID), e.NodeName, orNull(e.SlotID), e.Generation, e.Reason, e.StartedDate, e.Revision,
		e.Alias, e.Origin.Kind, orNull(e.Origin.ID), orNull(e.RetryOf), e.Callback, orNull(e.CreatedBy), e.Devices,
	}
}

const (
	insertExecution = `insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
		input, input_sha256, input_size, shots, seed, resources, retries, status, server_id, created_date, attempt, node_id, node_name, slot_id, generation, reason, started_date, revision, alias, origin, origin_id, retry_of, callback, created_by, devices)`
	executionValues = `$1::uuid, $2::uuid, $3::uuid, $4, $5::int, $6::uuid, $7::uuid, $8, $9, $10, $11::text[], $12::bytea, nullif($13, ''), $14::bigint, $15::int, $16::bigint, $17::jsonb, $18::int, $19,
		$20::uuid, $21::timestamptz, $22::int, $23::uuid, $24, $25::uuid, $26::bigint, $27, $28::timestamptz, $29::int, $30, $31, $32::uuid, $33::uuid, $34::jsonb, $35::uuid, coalesce($36::text[], '{}')`
)

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
	Alias       string
	FunctionID  warpket.ID
	Version     warpket.Condition // numbers
	Statuses    []warpket.Status  // any of these, each named once; nil for all
	Lane        warpket.Lane
	Target      warpket.Target
	RetryOf     warpket.ID
	Tags        []string          // it has all of them
	Description warpket.Condition // its values are text
	CreatedDate warpket.Condition // RFC 3339
	Since       time.Time         // created at or after
	Until       time.Time         // created before
	Small       bool              // inputs and results up to smallPayload come along
	Functions   []warpket.ID      // only of these; nil for all
}

// smallPayload is how many bytes an input or a result has that a list may hold.
const smallPayload = 4 << 10

// Executions lists the executions of a project, without their logs, and without
// their inputs and results unless these are small and asked for. With a filter
// that few fit, a page may hold fewer than its limit, even none, while there are
// more: its cursor tells.
func (s *Store) Executions(ctx context.Context, project warpket.ID, filter ExecutionFilter, page Page) ([]warpket.Execution, string, error) {
	if filter.Statuses != nil && len(filter.Statuses) == 0 {
		return nil, "", nil
	}
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w, order, err := filter.walk(project, before)
	if err != nil {
		return nil, "", err
	}
	l := looking{table: `executions`, columns: executionHeadColumns, order: order, walk: w.where.String(), walkArgs: w.args}
	if filter.rare() {
		for _, status := range filter.Statuses {
			l.parts = append(l.parts, `status = '`+string(status)+`'`) // a constant, for the index is for all statuses but one
		}
	}
	if filter.Small {
		l.columns = executionSmallColumns
	}
	if err := filter.narrow(w); err != nil {
		return nil, "", err
	}
	l.fits, l.args = strings.TrimPrefix(w.where.String(), l.walk), w.args
	items, next, err := look(ctx, s.pool, l, scanExecution, rows, func(e warpket.Execution) warpket.ID { return e.ID })
	return items, next, explain(err, "execution", "")
}

// walk is what an index serves, in the order of IDs. It and the order compare
// both columns of the index at once: the planner, which knows what is common and
// not what is recent, would else walk through all executions by their IDs.
func (f ExecutionFilter) walk(project, before warpket.ID) (w *conditions, order string, err error) {
	from, err := f.bounds(&before)
	if err != nil {
		return nil, "", err
	}
	column, key := `project_id`, project
	if f.FunctionID != "" && !f.rare() {
		column, key = `function_id`, f.FunctionID
	}
	if f.Alias != "" && f.FunctionID == "" && !f.rare() { // as the index says it
		return where(`alias <> '' and (project_id, alias, id) < ($1, $4, $2) and (project_id, alias, id) >= ($1, $4, $3)`, project, before, from, f.Alias), `project_id desc, alias desc, id desc`, nil
	}
	order = column + ` desc, id desc`
	w = where(fmt.Sprintf(`(%[1]s, id) < ($1, $2) and (%[1]s, id) >= ($1, $3)`, column), key, before, from)
	if key != project {
		w.and(`project_id = $%d`, project)
	}
	return w, order, nil
}

// bounds gives the ID from which to look, and lowers the one before which.
func (f ExecutionFilter) bounds(before *warpket.ID) (from warpket.ID, err error) {
	from = zeroID
	if !f.Since.IsZero() {
		from = warpket.FirstIDAt(f.Since)
	}
	if !f.Until.IsZero() {
		*before = min(*before, warpket.FirstIDAt(f.Until))
	}
	if f.CreatedDate.Op == "" {
		return from, nil
	}
	v, err := date("createdDate")(f.CreatedDate.Values[0])
	if err != nil {
		return from, err
	}
	switch created, _ := v.(time.Time); f.CreatedDate.Op { // narrow compares them exactly
	case warpket.Gt, warpket.Gte: // a request that is repeated creates under the ID that it first got
		from = max(from, warpket.FirstIDAt(created.Add(-requestsKept-time.Hour)))
	case warpket.Lt, warpket.Lte:
		*before = min(*before, warpket.FirstIDAt(created.Add(time.Minute)))
	default:
	}
	return from, nil
}

// rare reports whether it is for statuses that an index has: all but one.
func (f ExecutionFilter) rare() bool {
	return len(f.Statuses) > 0 && !slices.ContainsFunc(f.Statuses, func(s warpket.Status) bool { return s == warpket.Succeeded || !slices.Contains(warpket.Statuses, s) })
}

// narrow adds what is to be looked up in each execution.
func (f ExecutionFilter) narrow(w *conditions) error {
	if f.FunctionID != "" && f.rare() {
		w.and(`function_id = $%d`, f.FunctionID)
	}
	if f.Statuses != nil && !f.rare() {
		w.and(`status = any ($%d::text[])`, f.Statuses)
	}
	if f.Alias != "" && (f.FunctionID != "" || f.rare()) {
		w.and(`alias = $%d`, f.Alias)
	}
	if f.Functions != nil {
		w.and(`function_id = any ($%d::uuid[])`, f.Functions)
	}
	if err := w.compare(`version_number`, f.Version, wholeNumber("version")); err != nil {
		return err
	}
	if f.Lane != "" {
		w.and(`lane = $%d`, f.Lane)
	}
	if f.Target != "" {
		w.and(`target = $%d`, f.Target)
	}
	if f.RetryOf != "" {
		w.and(`retry_of = $%d`, f.RetryOf)
	}
	if len(f.Tags) > 0 {
		w.and(`tags @> $%d::text[]`, f.Tags)
	}
	if err := w.compare(`description`, f.Description, nil); err != nil {
		return err
	}
	return w.compare(`created_date`, f.CreatedDate, date("createdDate"))
}

// OpenExecutions gives the IDs of up to a thousand executions after a given
// one that should have a workflow.
func (s *Store) OpenExecutions(ctx context.Context, after warpket.ID) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from executions where status in ('queued', 'running') and lane = 'durable' and id > $1 order by id limit 1000`, cmp.Or(after, zeroID))
	return ids, explain(err, "execution", "")
}

const zeroID warpket.ID = "00000000-0000-0000-0000-000000000000"

// TakeOver gives up to a hundred open express executions after a given one
// that nobody may drive: the server that did is no longer listed. They are that
// server's from now on. Its own come along, once they are a minute old: it
// knows which of them it drives.
func (s *Store) TakeOver(ctx context.Context, server, after warpket.ID) ([]warpket.Execution, error) {
	taken, err := many(ctx, s.pool, scanExecution, `with left_over as (select id as taken from executions
			where status in ('queued', 'running') and lane = 'express' and id > $2
			and (server_id = $1 and created_date < now() - interval '1 minute' or not exists (select from servers s where s.id = server_id and s.lease_until > now()))
			order by id limit 100 for update skip locked),
		mine as (update executions set server_id = $1 from left_over where id = taken returning `+executionColumns+`)
		select * from mine order by id`, server, cmp.Or(after, zeroID))
	return taken, explain(err, "execution", "")
}

// FinalExecutions gives those of some executions that are final.
func (s *Store) FinalExecutions(ctx context.Context, ids []warpket.ID) ([]warpket.ID, error) {
	final, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from executions where id = any ($1::uuid[]) and status not in ('queued', 'running')`, ids)
	return final, explain(err, "execution", "")
}

// WatchExecution has this and every other server told when an open execution
// is final.
func (s *Store) WatchExecution(ctx context.Context, id warpket.ID) error {
	_, err := s.pool.Exec(ctx, `update executions set watched = true where id = $1 and status in ('queued', 'running') and not watched`, id)
	return explain(err, "execution", id)
}

// tellWatchers is what a statement returns that makes an execution final.
const tellWatchers = `case when watched then pg_notify('warpket', 'execution:' || id)::text end`

// ClaimExecution takes a queued execution for a slot, on behalf of a server:
// one conditional update, so only one of several callers gets it. claimed is
// false when it is no longer queued; it then comes back as it is.
func (s *Store) ClaimExecution(ctx context.Context, id warpket.ID, slot warpket.Slot, nodeName string, server warpket.ID, now time.Time) (e warpket.Execution, claimed bool, err error) {
	e, err = one(ctx, s.pool, scanExecution, `update executions set status = 'running', attempt = attempt + 1, node_id = $2, node_name = $3, slot_id = $4, generation = $5, reason = $6, started_date = $7, server_id = $8, devices = coalesce($9::text[], '{}')
		where id = $1 and status = 'queued' returning `+executionColumns, id, slot.NodeID, nodeName, slot.ID, slot.Generation, slot.Reason, now, server, slot.Devices)
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
	_, err := s.pool.Exec(ctx, `with unclaimed as (update executions set status = case when cancel_asked then 'cancelled' else 'queued' end, finished_date = case when cancel_asked then now() end,
			error = case when cancel_asked then $4::jsonb end,
			attempt = attempt - 1, node_id = null, node_name = '', slot_id = null, generation = 0, reason = '', started_date = null, devices = '{}'
		where id = $1 and attempt = $2 and generation = $3 and status = 'running' returning *, `+tellWatchers+`)
		insert into outbox (kind, subject_id) select 'callback', id from unclaimed where status = 'cancelled' and callback is not null`, id, attempt, generation, cancelled)
	return explain(err, "execution", id)
}

// Finish is how an attempt ended, with what is to be kept.
type Finish struct {
	ID        warpket.ID
	Lane      warpket.Lane
	Attempt   int
	Status    warpket.Status
	Result    warpket.Payload
	Error     *warpket.Failure
	Log       warpket.Payload
	LogSize   int64
	Timings   warpket.Timings
	Usage     warpket.Usage
	Isolation string
	Callback  bool // someone wants to be called: it is promised
	Again     bool // put it into the queue for another attempt instead, unless someone has asked for its end
}

// FinishExecution makes an execution final, or queues it again. The first final
// status wins: finished tells whether this one did.
func (s *Store) FinishExecution(ctx context.Context, f Finish, now time.Time) (finished bool, err error) {
	batch := &pgx.Batch{}
	if f.Again {
		batch.Queue(`update executions set status = 'queued', node_id = null, node_name = '', slot_id = null, generation = 0, reason = '', started_date = null, usage = $3, devices = '{}'
			where id = $1 and attempt = $2 and status = 'running' and not cancel_asked`, f.ID, f.Attempt, f.Usage)
	}
	batch.Queue(`update executions set status = $3, result = $4, result_sha256 = nullif($5, ''), result_size = $6, error = $7,
			log = $8, log_sha256 = nullif($9, ''), log_size = $10, timings = $11, finished_date = $12, usage = $14, isolation = $15
		where id = $1 and attempt = $2 and status in ('queued', 'running') and (cancel_asked or not $13) returning `+tellWatchers,
		string(f.ID), f.Attempt, f.Status, f.Result.Inline, f.Result.SHA256, f.Result.Size, f.Error, f.Log.Inline, f.Log.SHA256, f.LogSize, f.Timings, now, f.Again, f.Usage, f.Isolation).
		Exec(func(tag pgconnTag) error { finished = tag.RowsAffected() == 1; return nil })
	for _, p := range []warpket.Payload{f.Result, f.Log} {
		if p.SHA256 != "" {
			batch.Queue(`insert into execution_objects (execution_id, project_id, sha256) select id, project_id, $2 from executions
				where id = $1 and $2 in (result_sha256, log_sha256) on conflict do nothing`, f.ID, p.SHA256)
		}
	}
	if f.Callback {
		batch.Queue(`insert into outbox (kind, subject_id) select 'callback', id from executions
			where id = $1 and status not in ('queued', 'running') and callback->>'status' = 'pending' on conflict do nothing`, f.ID)
	}
	if !f.Again && f.Lane != warpket.Express { // nothing is left to drive
		batch.Queue(`delete from outbox where kind = 'execute' and subject_id = $1`, f.ID)
	}
	err = s.pool.SendBatch(ctx, batch).Close()
	return finished, explain(err, "execution", f.ID)
}

// WaitHere says that the activity of this execution now waits in that server;
// so the promise of its workflow is kept.
func (s *Store) WaitHere(ctx context.Context, id, server warpket.ID) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `with kept as (delete from outbox where kind = 'execute' and subject_id = $1)
		update executions set server_id = $2 where id = $1 returning `+executionColumns, id, server)
	return e, explain(err, "execution", id)
}

// WakeElsewhere tells all servers that an execution has changed.
func (s *Store) WakeElsewhere(ctx context.Context, id warpket.ID) error {
	_, err := s.pool.Exec(ctx, `select pg_notify('warpket', $1)`, string(ExecutionWoken)+":"+string(id))
	return explain(err, "execution", id)
}

// AskCancel records that someone wants the end of an execution. One that is
// queued is final at once; a running one has to be ended on its node.
func (s *Store) AskCancel(ctx context.Context, project, id warpket.ID, failure warpket.Failure, now time.Time) (warpket.Execution, error) {
	e, err := one(ctx, s.pool, scanExecution, `with asked as (update executions set cancel_asked = true,
			status = case when status = 'queued' then 'cancelled' else status end,
			error = case when status = 'queued' then $3::jsonb else error end,
			finished_date = case when status = 'queued' then $4 else finished_date end
		where id = $1 and project_id = $2 and status in ('queued', 'running') returning *),
		promised as (insert into outbox (kind, subject_id) select 'callback', id from asked where status = 'cancelled' and callback is not null)
		select `+executionColumns+` from asked`, id, project, failure, now)
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

// DropExecutions drops the months of executions that ended before a given time,
// with what they hold of objects. A month with an execution that is open stays.
// Where somebody uses the table for more than a moment, the next call goes on.
func (s *Store) DropExecutions(ctx context.Context, before time.Time) error {
	names, err := many(ctx, s.pool, pgx.RowTo[string], `select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'executions'::regclass order by c.relname`)
	if err != nil {
		return explain(err, "partition", "")
	}
	for _, name := range names {
		month, err := time.Parse("executions_200601", name)
		if err != nil || month.AddDate(0, 1, 0).After(before) {
			continue
		}
		if err := s.dropMonth(ctx, name, month); err != nil {
			return explain(err, "partition", name)
		}
	}
	return nil
}

func (s *Store) dropMonth(ctx context.Context, name string, month time.Time) error {
	from, to := warpket.FirstIDAt(month), warpket.FirstIDAt(month.AddDate(0, 1, 0))
	var open bool
	err := s.pool.QueryRow(ctx, `select exists (select from executions where status in ('queued', 'running') and id >= $1 and id < $2)`, from, to).Scan(&open)
	if err != nil || open {
		return err
	}
	for n := int64(1); n > 0; {
		tag, err := s.pool.Exec(ctx, `delete from execution_objects where (execution_id, sha256) in (select execution_id, sha256 from execution_objects where execution_id >= $1 and execution_id < $2 limit 10000)`, from, to)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
	}
	batch := &pgx.Batch{}
	batch.Queue(`delete from outbox where kind in ('execute', 'callback') and subject_id >= $1 and subject_id < $2`, from, to)
	batch.Queue(`select set_config('lock_timeout', '1s', true)`)
	batch.Queue(`drop table ` + pgx.Identifier{name}.Sanitize())
	return s.pool.SendBatch(ctx, batch).Close()
}

// DeleteExecution removes a final execution, and what it holds of objects.
func (s *Store) DeleteExecution(ctx context.Context, project, id warpket.ID) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		status, err := one(ctx, tx, pgx.RowTo[warpket.Status], `select status from executions where id = $1 and project_id = $2 for update`, id, project)
		if err != nil {
			return err
		}
		if !status.Final() {
			return warpket.Errorf(warpket.Conflict, "execution %s is %s: cancel it first", id, status)
		}
		for _, sql := range []string{
			`delete from executions where id = $1`,
			`delete from execution_objects where execution_id = $1`,
			`delete from outbox where kind in ('execute', 'callback') and subject_id = $1`,
		} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		return nil
	})
	return explain(err, "execution", id)
}

// ChangeCallback lets change alter the callback of an execution while it is
// pending; its promise is kept when it no longer is. It serves the system, not
// a caller, so it takes no tenant.
func (s *Store) ChangeCallback(ctx context.Context, id warpket.ID, change func(*warpket.Callback)) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		c, err := one(ctx, tx, pgx.RowTo[*warpket.Callback], `select callback from executions where id = $1 for no key update`, id)
		if err != nil || c == nil || c.Status != warpket.CallbackPending {
			return err
		}
		change(c)
		if _, err := tx.Exec(ctx, `update executions set callback = $2 where id = $1`, id, c); err != nil || c.Status == warpket.CallbackPending {
			return err
		}
		_, err = tx.Exec(ctx, `delete from outbox where kind = 'callback' and subject_id = $1`, id)
		return err
	})
	return explain(err, "execution", id)
}

const executionHeadColumns = `id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
	null::bytea, coalesce(input_sha256, ''), input_size, shots, seed, resources, retries, status, attempt, coalesce(node_id::text, ''), node_name, coalesce(slot_id::text, ''), generation, reason,
	null::bytea, coalesce(result_sha256, ''), result_size, error, null::bytea, coalesce(log_sha256, ''), log_size, coalesce(timings, '{}'), coalesce(usage, '{}'), isolation, cancel_asked, coalesce(server_id::text, ''), created_date, started_date, finished_date, revision, alias, origin, coalesce(origin_id::text, ''), coalesce(retry_of::text, ''), callback, coalesce(created_by::text, ''), devices`

// executionSmallColumns are the head's, with inputs and results that are small.
var executionSmallColumns = strings.Replace(strings.Replace(executionHeadColumns,
	"null::bytea", fmt.Sprintf("case when input_size <= %d then input end", smallPayload), 1),
	"null::bytea", fmt.Sprintf("case when result_size <= %d then result end", smallPayload), 1)

const executionColumns = `id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags,
	input, coalesce(input_sha256, ''), input_size, shots, seed, resources, retries, status, attempt, coalesce(node_id::text, ''), node_name, coalesce(slot_id::text, ''), generation, reason,
	result, coalesce(result_sha256, ''), result_size, error, log, coalesce(log_sha256, ''), log_size, coalesce(timings, '{}'), coalesce(usage, '{}'), isolation, cancel_asked, coalesce(server_id::text, ''), created_date, started_date, finished_date, revision, alias, origin, coalesce(origin_id::text, ''), coalesce(retry_of::text, ''), callback, coalesce(created_by::text, ''), devices`

func scanExecution(row pgx.CollectableRow) (e warpket.Execution, err error) {
	err = row.Scan(&e.ID, &e.ProjectID, &e.FunctionID, &e.FunctionName, &e.VersionNumber, &e.SnapshotID, &e.RuntimeID, &e.Lane, &e.Target, &e.Description, &e.Tags,
		&e.Input.Inline, &e.Input.SHA256, &e.Input.Size, &e.Shots, &e.Seed, &e.Resources, &e.Retries, &e.Status, &e.Attempt, &e.NodeID, &e.NodeName, &e.SlotID, &e.Generation, &e.Reason,
		&e.Result.Inline, &e.Result.SHA256, &e.Result.Size, &e.Error, &e.Log.Inline, &e.Log.SHA256, &e.LogSize, &e.Timings, &e.Usage, &e.Isolation, &e.CancelAsked, &e.ServerID, &e.CreatedDate, &e.StartedDate, &e.FinishedDate, &e.Revision, &e.Alias, &e.Origin.Kind, &e.Origin.ID, &e.RetryOf, &e.Callback, &e.CreatedBy, &e.Devices)
	return e, err
}
