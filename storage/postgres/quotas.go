package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Quota gives the bounds that an operator has set for a project; those of the
// default when project is empty. Without a row nothing is set.
func (s *Store) Quota(ctx context.Context, project warpket.ID) (warpket.Quota, error) {
	q, err := one(ctx, s.pool, scanQuota, selectQuota, orNull(project))
	if warpket.KindOf(explain(err, "quota", project)) == warpket.NotFound {
		return warpket.Quota{ProjectID: project, Limits: map[warpket.Limit]int64{}}, nil
	}
	return q, explain(err, "quota", project)
}

// SetQuota lets change replace the bounds of a project, or of the default when
// project is empty; concurrent calls take turns. Who waits for room hears of it.
func (s *Store) SetQuota(ctx context.Context, project warpket.ID, now time.Time, change func(*warpket.Quota) error) (warpket.Quota, error) {
	var q warpket.Quota
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		// The row is there before it is locked, so that two who set it first take turns.
		if _, err := tx.Exec(ctx, `insert into quotas (project_id, limits, updated_date) values ($1, '{}', $2) on conflict do nothing`, orNull(project), time.Time{}); err != nil {
			return err
		}
		if q, err = one(ctx, tx, scanQuota, selectQuota+` for update`, orNull(project)); err != nil {
			return err
		}
		if err := change(&q); err != nil {
			return err
		}
		q.UpdatedDate = now
		if _, err := tx.Exec(ctx, `update quotas set limits = $2, updated_date = $3 where `+quotaKey, orNull(project), q.Limits, now); err != nil {
			return err
		}
		return notify(ctx, tx, CapacityFreed, "")
	})
	return q, explain(err, "project", project)
}

// quotaKey is written like the index.
const (
	quotaKey    = `coalesce(project_id, '00000000-0000-0000-0000-000000000000'::uuid) = coalesce($1::uuid, '00000000-0000-0000-0000-000000000000'::uuid)`
	selectQuota = `select coalesce(project_id::text, ''), limits, updated_date from quotas where ` + quotaKey
)

func scanQuota(row pgx.CollectableRow) (q warpket.Quota, err error) {
	err = row.Scan(&q.ProjectID, &q.Limits, &q.UpdatedDate)
	return q, err
}

// bounds are a project's limits: its own, and the default's where that is open.
func bounds(ctx context.Context, q querier, project warpket.ID) (warpket.Quota, error) {
	rows, err := many(ctx, q, scanQuota, `select coalesce(project_id::text, ''), limits, updated_date from quotas
		where coalesce(project_id, '00000000-0000-0000-0000-000000000000'::uuid) in ($1, '00000000-0000-0000-0000-000000000000') order by project_id nulls last`, project)
	var out warpket.Quota
	for _, row := range rows {
		out = out.Or(row)
	}
	return out, err
}

// within refuses what a project's quota has no room for, after more of it was
// added in this transaction. count counts what there is then, as $1 has it.
// Those who add to one bounded project take turns, so that no two of them fit
// into the same room.
func within(ctx context.Context, tx pgx.Tx, project warpket.ID, what warpket.Limit, more int64, count string, now time.Time) error {
	q, err := bounds(ctx, tx, project)
	if _, bounded := q.Limits[what]; err != nil || !bounded {
		return err
	}
	if _, err := tx.Exec(ctx, `select from projects where id = $1 for no key update`, project); err != nil {
		return err
	}
	var used int64
	if err := tx.QueryRow(ctx, count, project).Scan(&used); err != nil {
		return err
	}
	return q.Admit(what, used-more, more, now)
}

const (
	countFunctions = `select count(*) from functions where project_id = $1`
	countSlots     = `select count(*) from slots where project_id = $1`
	countWanted    = `select coalesce(sum(slots), 0)::bigint from deployments where project_id = $1 and status not in ('failed', 'detached')`
)

// Standing is how a project stands to its quota.
type Standing struct {
	Quota warpket.Quota           // with the default's where the project's is open
	Used  map[warpket.Limit]int64 // of what is counted cheaply: storage, and the month's seconds
	Open  map[warpket.ID]bool     // its open executions, and whether they wait; read only when they are bounded
}

// Standing reads how a project stands now. Seconds are at most a minute old.
func (s *Store) Standing(ctx context.Context, project warpket.ID, now time.Time) (Standing, error) {
	st := Standing{Used: map[warpket.Limit]int64{}, Open: map[warpket.ID]bool{}}
	var err error
	if st.Quota, err = bounds(ctx, s.pool, project); err != nil || len(st.Quota.Limits) == 0 {
		return st, explain(err, "quota", project)
	}
	if err := s.cheap(ctx, project, st.Used, now); err != nil {
		return st, err
	}
	_, open := st.Quota.Limits[warpket.ExecutionLimit]
	_, waiting := st.Quota.Limits[warpket.WaitingLimit]
	if !open && !waiting {
		return st, nil
	}
	rows, err := s.pool.Query(ctx, `select id, status = 'queued' from executions where project_id = $1 and status in ('queued', 'running')`, project)
	if err == nil {
		var id warpket.ID
		var queued bool
		_, err = pgx.ForEachRow(rows, []any{&id, &queued}, func() error { st.Open[id] = queued; return nil })
	}
	return st, explain(err, "execution", "")
}

// cheap counts what is counted elsewhere already.
func (s *Store) cheap(ctx context.Context, project warpket.ID, used map[warpket.Limit]int64, now time.Time) error {
	var cpu, gpu float64
	var bytes int64
	err := s.pool.QueryRow(ctx, `select coalesce((select bytes from project_storage where project_id = $1), 0),
		coalesce((select cpu_seconds from usage_months where project_id = $1 and month = $2), 0), coalesce((select gpu_seconds from usage_months where project_id = $1 and month = $2), 0)`,
		project, warpket.MonthOf(now)).Scan(&bytes, &cpu, &gpu)
	used[warpket.StorageLimit], used[warpket.CPULimit], used[warpket.GPULimit] = bytes, int64(cpu), int64(gpu)
	return explain(err, "project", project)
}

// Used counts all that a quota bounds.
func (s *Store) Used(ctx context.Context, project warpket.ID, now time.Time) (map[warpket.Limit]int64, error) {
	used := map[warpket.Limit]int64{}
	if err := s.cheap(ctx, project, used, now); err != nil {
		return nil, err
	}
	var functions, slots, open, waiting int64
	err := s.pool.QueryRow(ctx, `select (`+countFunctions+`), greatest((`+countSlots+`), (`+countWanted+`)), count(*), count(*) filter (where status = 'queued')
		from executions where project_id = $1 and status in ('queued', 'running')`, project).Scan(&functions, &slots, &open, &waiting)
	used[warpket.FunctionLimit], used[warpket.SlotLimit], used[warpket.ExecutionLimit], used[warpket.WaitingLimit] = functions, slots, open, waiting
	return used, explain(err, "project", project)
}
