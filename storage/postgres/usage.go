package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// countedEvents is how many events are moved at a time.
const countedEvents = 50_000

// CountUsage moves what was used since the last time into the hours and months
// of its projects, in one transaction, and counts the slots that are held. more
// reports whether it has left some. Servers that call it at the same time leave
// it to the first.
func (s *Store) CountUsage(ctx context.Context) (more bool, err error) {
	n := 0
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock(hashtext('warpket usage'))`).Scan(&mine); err != nil || !mine {
			return err
		}
		// A slot that is just being released counts itself.
		_, err := tx.Exec(ctx, `with held as materialized (select id, project_id, function_id, counted_date, status from slots where counted_date < now() - interval '30 seconds' for update skip locked),
			counted as (update slots s set counted_date = now() from held h where h.id = s.id)
			insert into usage_events (project_id, function_id, date, gpu_seconds, slot_seconds)
			select project_id, function_id, now(), seconds * `+gpusOf+`, seconds from held h, lateral (select extract(epoch from now() - h.counted_date) as seconds) t where h.status <> 'lost'`)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `with moved as (delete from usage_events where ctid = any (array(select ctid from usage_events limit $1)) returning *),
			hours as (insert into usage_hours (project_id, hour, function_id, `+totals+`)
				select project_id, date_trunc('hour', date, 'UTC') as h, function_id, `+sums+` from moved group by 1, 2, 3 order by 1, 2, 3
				on conflict (project_id, hour, function_id) do update set succeeded = usage_hours.succeeded + excluded.succeeded, failed = usage_hours.failed + excluded.failed,
					cancelled = usage_hours.cancelled + excluded.cancelled, timed_out = usage_hours.timed_out + excluded.timed_out, lost = usage_hours.lost + excluded.lost,
					cpu_seconds = usage_hours.cpu_seconds + excluded.cpu_seconds, memory_seconds = usage_hours.memory_seconds + excluded.memory_seconds,
					gpu_seconds = usage_hours.gpu_seconds + excluded.gpu_seconds, slot_seconds = usage_hours.slot_seconds + excluded.slot_seconds),
			months as (insert into usage_months (project_id, month, cpu_seconds, gpu_seconds)
				select project_id, date_trunc('month', date, 'UTC') as m, sum(cpu_seconds), sum(gpu_seconds) from moved group by 1, 2 order by 1, 2
				on conflict (project_id, month) do update set cpu_seconds = usage_months.cpu_seconds + excluded.cpu_seconds, gpu_seconds = usage_months.gpu_seconds + excluded.gpu_seconds)
			select count(*) from moved`, countedEvents).Scan(&n)
	})
	return n == countedEvents, explain(err, "usage", "")
}

const (
	totals = `succeeded, failed, cancelled, timed_out, lost, cpu_seconds, memory_seconds, gpu_seconds, slot_seconds`
	sums   = `count(*) filter (where status = 'succeeded') as succeeded, count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'cancelled') as cancelled,
		count(*) filter (where status = 'timed_out') as timed_out, count(*) filter (where status = 'lost') as lost,
		sum(cpu_seconds) as cpu_seconds, sum(memory_seconds) as memory_seconds, sum(gpu_seconds) as gpu_seconds, sum(slot_seconds) as slot_seconds`
	gpusOf = `(select count(*) from devices v where v.slot_id = h.id and v.kind = 'gpu')`
)

// UsageFilter says which usage is asked for. Times are cut to whole hours.
type UsageFilter struct {
	Since, Until time.Time
	Functions    []warpket.ID // only of these; nil for all
}

// Usage is what was used in a day or by a function.
type Usage struct {
	Day        time.Time  // midnight, UTC
	FunctionID warpket.ID // or empty
	warpket.Totals
}

// UsageByDay gives what a project has used on each day on which it has used
// anything, newest first.
func (s *Store) UsageByDay(ctx context.Context, project warpket.ID, f UsageFilter) ([]Usage, error) {
	days, err := many(ctx, s.pool, scanUsage, `select date_trunc('day', hour, 'UTC') as day, '', `+added+` from (`+used+`) u group by 1 order by 1 desc`, project, f.Since, f.Until, f.Functions)
	return days, explain(err, "usage", "")
}

// UsageByFunction gives what each function of a project has used, deleted ones
// included, newest function first.
func (s *Store) UsageByFunction(ctx context.Context, project warpket.ID, f UsageFilter, page Page) ([]Usage, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanUsage, `select $2::timestamptz, function_id::text, `+added+` from (`+used+`) u where function_id < $5 group by function_id order by function_id desc limit $6`,
		project, f.Since, f.Until, f.Functions, before, rows)
	if err != nil {
		return nil, "", explain(err, "usage", "")
	}
	items, next := cut(items, rows, func(u Usage) warpket.ID { return u.FunctionID })
	return items, next, nil
}

// used is all that a project has used from $2 to $3: what is in the hours, what
// is on its way there, and what slots hold. In one statement nothing is seen
// twice.
const (
	used = `select hour, function_id, ` + totals + ` from usage_hours where project_id = $1 and hour >= $2 and hour < $3 and ($4::uuid[] is null or function_id = any ($4))
		union all select date_trunc('hour', date, 'UTC'), function_id, ` + sums + ` from usage_events
			where project_id = $1 and date >= $2 and date < $3 and ($4::uuid[] is null or function_id = any ($4)) group by 1, 2
		union all select date_trunc('hour', now(), 'UTC'), function_id, 0, 0, 0, 0, 0, 0, 0, seconds * ` + gpusOf + `, seconds
			from slots h, lateral (select extract(epoch from now() - h.counted_date)::double precision as seconds) t
			where project_id = $1 and status <> 'lost' and now() >= $2 and now() < $3 and ($4::uuid[] is null or function_id = any ($4))`
	added = `sum(succeeded)::bigint, sum(failed)::bigint, sum(cancelled)::bigint, sum(timed_out)::bigint, sum(lost)::bigint, sum(cpu_seconds), sum(memory_seconds), sum(gpu_seconds), sum(slot_seconds)`
)

func scanUsage(row pgx.CollectableRow) (u Usage, err error) {
	var n [5]int64
	err = row.Scan(&u.Day, &u.FunctionID, &n[0], &n[1], &n[2], &n[3], &n[4], &u.CPUSeconds, &u.MemorySeconds, &u.GPUSeconds, &u.SlotSeconds)
	u.Executions = map[warpket.Status]int64{warpket.Succeeded: n[0], warpket.Failed: n[1], warpket.Cancelled: n[2], warpket.TimedOut: n[3], warpket.Lost: n[4]}
	return u, err
}
