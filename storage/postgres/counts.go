package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Executions are counted beside the path of a call, from the rows that are there
// anyhow: up to an ID that moves on with the time, counts are kept; the rows after
// it are counted where someone asks. So no call waits for the row of a counter,
// the rows to count are those of a minute, and counts outlive the rows.
const (
	countedAfter = time.Minute      // how old an ID is when its row is taken to be there
	lateAfter    = 20 * time.Second // how old an ID is when whoever writes its row sees to its being counted
	countedRows  = 50_000           // at a time
)

// CountExecutions adds executions of a while ago to the counts of their
// functions. more reports whether there is more to count. Another server that is
// about it is left to it.
func (s *Store) CountExecutions(ctx context.Context) (more bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var from, to warpket.ID
		var now time.Time
		rows, err := many(ctx, tx, pgx.RowTo[warpket.ID], `select id from execution_counts_until for update skip locked`)
		if err != nil || len(rows) == 0 {
			return err
		}
		from = rows[0]
		if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		end := warpket.FirstIDAt(now.Add(-countedAfter))
		if from >= end {
			return nil
		}
		if err := tx.QueryRow(ctx, `select coalesce((select id from executions where id >= $1 and id < $2 order by id offset $3 limit 1), $2)`, from, end, countedRows).Scan(&to); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `with counted as (select function_id, version_number, count(*) as n from executions where id >= $1 and id < $2 group by function_id, version_number),
			there as (select id from functions where id in (select function_id from counted) for key share)
			insert into execution_counts as c (function_id, version_number, count) select function_id, version_number, n from counted join there on there.id = function_id
			on conflict (function_id, version_number) do update set count = c.count + excluded.count`, from, to)
		if err != nil {
			return err
		}
		more = to < end
		_, err = tx.Exec(ctx, `update execution_counts_until set id = $1`, to)
		return err
	})
	return more, explain(err, "execution count", "")
}

// ExecutionCounts tells how many executions functions of a project have had, by
// the numbers of their versions, those that are gone included; number 0 is the
// draft.
func (s *Store) ExecutionCounts(ctx context.Context, project warpket.ID, functions ...warpket.ID) (map[warpket.ID]map[int]int64, error) {
	rows, err := s.pool.Query(ctx, `select function_id, version_number, sum(n)::bigint from (
			select function_id, version_number, count as n from execution_counts where function_id = any ($2::uuid[])
			union all
			select function_id, version_number, count(*) from executions where function_id = any ($2::uuid[]) and id >= (select id from execution_counts_until) group by function_id, version_number) counts
		where function_id in (select f.id from functions f where f.project_id = $1 and f.id = any ($2::uuid[])) group by function_id, version_number`, project, functions)
	if err != nil {
		return nil, explain(err, "execution count", "")
	}
	counts := map[warpket.ID]map[int]int64{}
	var function warpket.ID
	var number int
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&function, &number, &n}, func() error {
		if counts[function] == nil {
			counts[function] = map[int]int64{}
		}
		counts[function][number] = n
		return nil
	})
	return counts, explain(err, "execution count", "")
}

// counting wraps the statement that adds an execution, so that one whose ID is
// older than what has been counted is counted nevertheless. Whoever counts waits
// until it is there, and the other way round.
func counting(insert string) string {
	return `with created as (` + insert + ` returning id, function_id, version_number),
		until as (select id as counted from execution_counts_until for share),
		late as (insert into execution_counts as c (function_id, version_number, count)
			select e.function_id, e.version_number, 1 from created e cross join until join functions f on f.id = e.function_id where e.id < counted
			on conflict (function_id, version_number) do update set count = c.count + 1)`
}
