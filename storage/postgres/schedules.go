package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// promiseSchedule has Temporal's schedule made as the record says.
const promiseSchedule = `insert into outbox (kind, subject_id) values ('schedule', $1) on conflict do nothing`

// CreateSchedule adds a schedule of one of the project's functions or aliases,
// with the promise of Temporal's. Adding the same ID again does nothing.
func (s *Store) CreateSchedule(ctx context.Context, sc warpket.Schedule) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := scheduleTarget(ctx, tx, &sc); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `insert into schedules (id, project_id, function_id, name, version_number, draft, alias, input, description, pattern, time_zone, first_time, count, status, next_time, created_date, updated_date)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16) on conflict (id) do nothing`,
			sc.ID, sc.ProjectID, sc.FunctionID, sc.Name, sc.Version, sc.Draft, sc.Alias, sc.Input, sc.Description, sc.Pattern, sc.TimeZone, sc.FirstTime, sc.Count, sc.Status, sc.NextTime, sc.CreatedDate)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, promiseSchedule, sc.ID)
		return err
	})
	return explain(err, "schedule", sc.ID)
}

// scheduleTarget refuses what the project has not, and sets the function that an
// alias stands for. What there is stays as it is until the transaction has ended,
// so whatever deletes or changes it sees this schedule.
func scheduleTarget(ctx context.Context, tx pgx.Tx, sc *warpket.Schedule) error {
	if sc.Alias != "" {
		function, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select function_id from aliases where project_id = $1 and name = $2 for share`, sc.ProjectID, sc.Alias)
		if err != nil {
			return explain(err, "alias", sc.Alias)
		}
		sc.FunctionID = function
	}
	if err := hasFunction(ctx, tx, sc.ProjectID, sc.FunctionID); err != nil {
		return err
	}
	return hasVersion(ctx, tx, *sc)
}

// hasVersion refuses a schedule of a version that there is not. The version
// stays until the transaction has ended.
func hasVersion(ctx context.Context, tx pgx.Tx, sc warpket.Schedule) error {
	if sc.Version == 0 {
		return nil
	}
	_, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select id from versions where function_id = $1 and number = $2 for key share`, sc.FunctionID, sc.Version)
	return explain(err, "version", sc.Version)
}

// Schedule gives a schedule of the project.
func (s *Store) Schedule(ctx context.Context, project, id warpket.ID) (warpket.Schedule, error) {
	sc, err := one(ctx, s.pool, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1 and project_id = $2`, id, project)
	return sc, explain(err, "schedule", id)
}

// ScheduleByID gives a schedule. It serves the system, not a caller, so it
// takes no tenant.
func (s *Store) ScheduleByID(ctx context.Context, id warpket.ID) (warpket.Schedule, error) {
	sc, err := one(ctx, s.pool, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1`, id)
	return sc, explain(err, "schedule", id)
}

// ScheduleFilter narrows a list of schedules. Zero fields do not.
type ScheduleFilter struct {
	FunctionID warpket.ID
	Status     warpket.ScheduleStatus
	Name       warpket.Condition // its values are text
	Alias      string
	Functions  []warpket.ID // only of these; nil for all
}

// Schedules lists the schedules of a project.
func (s *Store) Schedules(ctx context.Context, project warpket.ID, filter ScheduleFilter, page Page) ([]warpket.Schedule, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`project_id = $1 and id < $2`, project, before, rows)
	if filter.FunctionID != "" {
		w.and(`function_id = $%d`, filter.FunctionID)
	}
	if filter.Status != "" {
		w.and(`status = $%d`, filter.Status)
	}
	if filter.Alias != "" {
		w.and(`alias <> '' and alias = $%d`, filter.Alias) // as the index says it
	}
	if filter.Functions != nil {
		w.and(`function_id = any ($%d::uuid[])`, filter.Functions)
	}
	if err := w.compare(`name`, filter.Name, nil); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanSchedule, `select `+scheduleColumns+` from schedules where `+w.where.String()+` order by id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "schedule", "")
	}
	items, next := cut(items, rows, func(sc warpket.Schedule) warpket.ID { return sc.ID })
	return items, next, nil
}

// UpdateSchedule lets change alter a schedule; concurrent calls, and its
// firing, take turns.
func (s *Store) UpdateSchedule(ctx context.Context, project, id warpket.ID, now time.Time, change func(*warpket.Schedule) error) (warpket.Schedule, error) {
	var sc warpket.Schedule
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		sc, err = one(ctx, tx, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1 and project_id = $2 for update`, id, project)
		if err != nil {
			return err
		}
		before := sc
		if err := change(&sc); err != nil {
			return err
		}
		if sc.Version != before.Version || sc.Alias != before.Alias {
			if err := scheduleTarget(ctx, tx, &sc); err != nil {
				return err
			}
		}
		sc.UpdatedDate = now
		if err := saveSchedule(ctx, tx, sc); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, promiseSchedule, id); err != nil {
			return err
		}
		sc, err = one(ctx, tx, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1`, id) // with the name of its function
		return err
	})
	return sc, explain(err, "schedule", id)
}

func saveSchedule(ctx context.Context, tx pgx.Tx, sc warpket.Schedule) error {
	_, err := tx.Exec(ctx, `update schedules set name = $2, version_number = $3, draft = $4, alias = $5, input = $6, description = $7, pattern = $8, time_zone = $9, first_time = $10, count = $11,
			status = $12, next_time = $13, last_time = $14, last_execution_id = $15, last_error = $16, updated_date = $17, function_id = $18 where id = $1`,
		sc.ID, sc.Name, sc.Version, sc.Draft, sc.Alias, sc.Input, sc.Description, sc.Pattern, sc.TimeZone, sc.FirstTime, sc.Count,
		sc.Status, sc.NextTime, sc.LastTime, orNull(sc.LastExecutionID), sc.LastError, sc.UpdatedDate, sc.FunctionID)
	return err
}

// DeleteSchedule removes a schedule. What it has created stays. check may refuse
// what is the schedule at that moment.
func (s *Store) DeleteSchedule(ctx context.Context, project, id warpket.ID, check func(warpket.Schedule) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		sc, err := one(ctx, tx, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1 and project_id = $2 for update`, id, project)
		if err != nil {
			return err
		}
		if err := check(sc); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from schedules where id = $1`, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, promiseSchedule, id)
		return err
	})
	return explain(err, "schedule", id)
}

// MirrorSchedule calls mirror with a schedule, or with nil when it was deleted,
// and keeps the promise once that succeeds. The record is locked meanwhile, so
// that Temporal is never told what was before last. mirror may be called again
// for the same record.
func (s *Store) MirrorSchedule(ctx context.Context, id warpket.ID, mirror func(context.Context, *warpket.Schedule) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		found, err := many(ctx, tx, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1 for no key update`, id)
		if err != nil {
			return err
		}
		var sc *warpket.Schedule
		if len(found) > 0 {
			sc = &found[0]
		}
		if err := mirror(ctx, sc); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `delete from outbox where kind = 'schedule' and subject_id = $1`, id)
		return err
	})
	return explain(err, "schedule", id)
}

// PromiseSchedule has Temporal's schedule made as the record says.
func (s *Store) PromiseSchedule(ctx context.Context, id warpket.ID) error {
	_, err := s.pool.Exec(ctx, promiseSchedule, id)
	return explain(err, "schedule", id)
}

// Firing is what came of a time of a schedule.
type Firing struct {
	At        time.Time
	Execution *warpket.Execution // to be created; nil for none
	Reason    string             // why none is
}

// FireSchedule creates the execution of a time at which a schedule is due, with
// the promise of its workflow, counts down and sets the next time, all in one
// step. When the schedule is not due, which a repetition is not, it does
// nothing; fired tells.
func (s *Store) FireSchedule(ctx context.Context, id warpket.ID, f Firing, now time.Time) (sc warpket.Schedule, fired bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		sc, err = one(ctx, tx, scanSchedule, `select `+scheduleColumns+` from schedules where id = $1 for update`, id)
		if err != nil || !sc.Due(f.At) {
			return err
		}
		var created warpket.ID
		if f.Execution != nil {
			if _, err := tx.Exec(ctx, insertExecution+` select `+executionValues, executionArgs(*f.Execution)...); err != nil {
				return err
			}
			created = f.Execution.ID
			if _, err := tx.Exec(ctx, `insert into outbox (kind, subject_id) values ('execute', $1)`, created); err != nil {
				return err
			}
		}
		sc.Fired(f.At, now, created, f.Reason)
		sc.UpdatedDate, fired = now, true
		if err := saveSchedule(ctx, tx, sc); err != nil {
			return err
		}
		if sc.Status.Final() {
			_, err = tx.Exec(ctx, promiseSchedule, id)
		}
		return err
	})
	if err != nil {
		fired = false
	}
	return sc, fired, explain(err, "schedule", id)
}

// OpenSchedules gives up to a thousand schedules after a given one that are to
// be in Temporal.
func (s *Store) OpenSchedules(ctx context.Context, after warpket.ID) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from schedules where status in ('running', 'paused') and id > $1 order by id limit 1000`, cmp.Or(after, zeroID))
	return ids, explain(err, "schedule", "")
}

// OverdueSchedules gives up to a hundred schedules whose time came before a
// given one and that have not fired: Temporal did not know of them.
func (s *Store) OverdueSchedules(ctx context.Context, before time.Time) ([]warpket.Schedule, error) {
	items, err := many(ctx, s.pool, scanSchedule, `select `+scheduleColumns+` from schedules where status = 'running' and next_time < $1 order by next_time limit 100`, before)
	return items, explain(err, "schedule", "")
}

const scheduleColumns = `id, project_id, function_id, (select f.name from functions f where f.id = function_id), name, version_number, draft, alias, input, description,
	pattern, time_zone, first_time, count, status, next_time, last_time, coalesce(last_execution_id::text, ''), last_error, created_date, updated_date`

func scanSchedule(row pgx.CollectableRow) (s warpket.Schedule, err error) {
	err = row.Scan(&s.ID, &s.ProjectID, &s.FunctionID, &s.FunctionName, &s.Name, &s.Version, &s.Draft, &s.Alias, &s.Input, &s.Description,
		&s.Pattern, &s.TimeZone, &s.FirstTime, &s.Count, &s.Status, &s.NextTime, &s.LastTime, &s.LastExecutionID, &s.LastError, &s.CreatedDate, &s.UpdatedDate)
	return s, err
}
