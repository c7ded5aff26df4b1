package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Object is the row of an object {project}/{sha256} in the object store.
type Object struct {
	ProjectID warpket.ID
	SHA256    string
	Size      int64
}

// TouchObjects writes the rows of objects that are about to be stored, if the
// quota of their project has room for them. It must come before each put, also
// of bytes that are there already: it keeps the sweep of unreferenced objects
// away for a day.
func (s *Store) TouchObjects(ctx context.Context, objects []Object, now time.Time) error {
	return s.touch(ctx, objects, now, true)
}

// TouchOutcome is TouchObjects for what an execution has made: it was accepted,
// so that is kept whatever the quota says.
func (s *Store) TouchOutcome(ctx context.Context, o Object, now time.Time) error {
	return s.touch(ctx, []Object{o}, now, false)
}

func (s *Store) touch(ctx context.Context, objects []Object, now time.Time, bounded bool) error {
	hashes := make([]string, len(objects))
	sizes := make([]int64, len(objects))
	for i, o := range objects {
		hashes[i], sizes[i] = o.SHA256, o.Size
	}
	if len(objects) == 0 {
		return nil
	}
	project := objects[0].ProjectID
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var added int64 // a row that was there has been updated, and so has a transaction that did so
		err := tx.QueryRow(ctx, `with touched as (insert into objects (project_id, sha256, size, touched_date)
				select distinct on (h) $1::uuid, h, n, $4::timestamptz from unnest($2::text[], $3::bigint[]) as t (h, n) order by h
				on conflict (project_id, sha256) do update set touched_date = excluded.touched_date returning size, xmax = 0 as added)
			select coalesce(sum(size) filter (where added), 0)::bigint from touched`,
			project, hashes, sizes, now).Scan(&added)
		if err != nil || added == 0 || !bounded {
			return err
		}
		return mayStore(ctx, tx, project, added, now)
	})
	return explain(err, "object", "")
}

// mayStore refuses bytes, which are counted when the transaction commits, that
// the quota of their project has no room for. It comes after what adds them, for
// objects are locked before what counts them, as in a sweep.
func mayStore(ctx context.Context, tx pgx.Tx, project warpket.ID, added int64, now time.Time) error {
	q, err := bounds(ctx, tx, project)
	if _, limited := q.Limits[warpket.StorageLimit]; err != nil || !limited {
		return err
	}
	var stored int64
	err = tx.QueryRow(ctx, `insert into project_storage as s (project_id, bytes) values ($1, 0) on conflict (project_id) do update set bytes = s.bytes returning bytes`, project).Scan(&stored)
	if err != nil {
		return err
	}
	return q.Admit(warpket.StorageLimit, stored, added, now)
}

// SweepObjects deletes up to a hundred objects that nothing has referred to
// since before. The row goes and remove is called while the row is locked, so
// that whoever stores the same bytes again waits and then stores them anew. It
// reports how many it deleted.
func (s *Store) SweepObjects(ctx context.Context, before time.Time, remove func(context.Context, Object) error) (int, error) {
	return s.sweep(ctx, `touched_date < $1`, before, remove)
}

// sweep is SweepObjects for the objects that a condition names.
func (s *Store) sweep(ctx context.Context, where string, arg any, remove func(context.Context, Object) error) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		objects, err := many(ctx, tx, pgx.RowToStructByPos[Object], `with unused as materialized (
				select project_id, sha256 from objects o where `+where+`
				and not exists (select from files f where f.project_id = o.project_id and f.sha256 = o.sha256)
				and not exists (select from builds b where b.project_id = o.project_id and b.sha256 = o.sha256)
				and not exists (select from git_objects g where g.project_id = o.project_id and g.sha256 = o.sha256)
				and not exists (select from execution_objects e where e.project_id = o.project_id and e.sha256 = o.sha256)
				limit 100 for update skip locked)
			delete from objects o using unused u where o.project_id = u.project_id and o.sha256 = u.sha256 returning o.project_id::text, o.sha256, o.size`, arg)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := remove(ctx, o); err != nil {
				return err
			}
		}
		n = len(objects)
		return nil
	})
	return n, explain(err, "object", "")
}
