package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Draft gives the draft of a function with its files.
func (s *Store) Draft(ctx context.Context, project, function warpket.ID) (warpket.Draft, error) {
	d, err := draftOf(ctx, s.pool, project, function)
	if err != nil {
		return d, explain(err, "function", function)
	}
	err = addFiles(ctx, s.pool, &d.Snapshot)
	return d, err
}

// SetDraft makes a snapshot the draft of its function, whose deployments follow.
// One that decides no other result than the draft that is there changes nothing.
// check may refuse to change what is the draft at that moment.
func (s *Store) SetDraft(ctx context.Context, snap warpket.Snapshot, now time.Time, check func(warpket.Draft) error) (warpket.Draft, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockFunction(ctx, tx, snap.ProjectID, snap.FunctionID); err != nil {
			return err
		}
		old, err := draftOf(ctx, tx, snap.ProjectID, snap.FunctionID)
		if err != nil {
			return err
		}
		if err := check(old); err != nil || old.Snapshot.Digest == snap.Digest {
			return err
		}
		return setDraft(ctx, tx, old, snap, now)
	})
	if err != nil {
		return warpket.Draft{}, explain(err, "function", snap.FunctionID)
	}
	return s.Draft(ctx, snap.ProjectID, snap.FunctionID)
}

func setDraft(ctx context.Context, tx pgx.Tx, old warpket.Draft, snap warpket.Snapshot, now time.Time) error {
	if err := insertSnapshot(ctx, tx, snap); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `update functions set draft_id = $2, updated_date = $3 where id = $1`, snap.FunctionID, snap.ID, now); err != nil {
		return err
	}
	if err := unused(ctx, tx, old.Snapshot.ID); err != nil {
		return err
	}
	return moved(ctx, tx, snap.ProjectID, snap.FunctionID, old.Snapshot.ID)
}

// reenter gives a draft that is a function's own the function's entry. A snapshot
// never changes, so that is another one of the same files.
func reenter(ctx context.Context, tx pgx.Tx, f warpket.Function, now time.Time) error {
	var own bool
	if err := tx.QueryRow(ctx, `select draft_id is not null from functions where id = $1`, f.ID).Scan(&own); err != nil || !own {
		return err
	}
	old, err := draftOf(ctx, tx, f.ProjectID, f.ID)
	if err != nil || old.Snapshot.Image != nil || old.Snapshot.Entry == f.Settings.Entry {
		return err
	}
	if err := addFiles(ctx, tx, &old.Snapshot); err != nil {
		return err
	}
	runtime, err := one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1`, old.Snapshot.RuntimeID)
	if err != nil {
		return err
	}
	snap := old.Snapshot
	snap.ID, snap.Entry, snap.CreatedDate = warpket.NewID(now), f.Settings.Entry, now
	for i := range snap.Files {
		snap.Files[i].ID = warpket.NewID(now)
	}
	snap.Digest = warpket.SnapshotDigest(snap.Files, snap.Entry, runtime.String())
	return setDraft(ctx, tx, old, snap, now)
}

// lockFunction has those who change a function's code take turns.
func lockFunction(ctx context.Context, tx pgx.Tx, project, function warpket.ID) error {
	_, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select id from functions where id = $1 and project_id = $2 for no key update`, function, project)
	return err
}

// draftOf gives the draft of a function without its files. There is none if the
// function has no code at all.
func draftOf(ctx context.Context, q querier, project, function warpket.ID) (warpket.Draft, error) {
	return one(ctx, q, scanDraft, draftColumns+` where f.id = $1 and f.project_id = $2`, function, project)
}

// Drafts gives the drafts of functions of a project, without their files.
func (s *Store) Drafts(ctx context.Context, project warpket.ID, functions ...warpket.ID) (map[warpket.ID]warpket.Draft, error) {
	all, err := many(ctx, s.pool, scanDraft, draftColumns+` where f.id = any ($1::uuid[]) and f.project_id = $2`, functions, project)
	drafts := make(map[warpket.ID]warpket.Draft, len(all))
	for _, d := range all {
		drafts[d.Snapshot.FunctionID] = d
	}
	return drafts, explain(err, "draft", "")
}

const draftColumns = `select coalesce(newest.number, 0), (select count(*) from versions v where v.function_id = f.id), newest.digest is distinct from n.digest,
			exists (select from deployments d where d.function_id = f.id and d.version_number = 0 and d.status not in ('failed', 'detached')), ` + snapshotColumns + `
		from functions f
		left join lateral (select v.number, v.snapshot_id, m.digest from versions v join snapshots m on m.id = v.snapshot_id where v.function_id = f.id order by v.number desc limit 1) newest on true
		join snapshots n on n.id = coalesce(f.draft_id, newest.snapshot_id) join runtimes r on r.id = n.runtime_id`

func scanDraft(row pgx.CollectableRow) (d warpket.Draft, err error) {
	err = row.Scan(append([]any{&d.Newest, &d.Versions, &d.Changed, &d.Deployed}, snapshotFields(&d.Snapshot)...)...)
	return d, err
}

// moved has the deployments of a function's draft follow it, if it is another
// snapshot now than it was before. Their slots are replaced as those of a changed
// configuration are. The error is pgx.ErrNoRows if there is no draft any more.
func moved(ctx context.Context, tx pgx.Tx, project, function, before warpket.ID) error {
	now, err := draftOf(ctx, tx, project, function)
	if err != nil || now.Snapshot.ID == before {
		return err
	}
	tag, err := tx.Exec(ctx, `update deployments set snapshot_id = $2, runtime_id = $3, updated_date = now() where function_id = $1 and version_number = 0 and status not in ('failed', 'detached')`,
		function, now.Snapshot.ID, now.Snapshot.RuntimeID)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	if err := degrade(ctx, tx, "the draft has changed; its slots are being replaced", `function_id = $2 and version_number = 0 and slots > 0`, function); err != nil {
		return err
	}
	return notify(ctx, tx, FunctionRevised, function)
}

// unused marks a snapshot that is neither a version's nor a draft any more.
func unused(ctx context.Context, tx pgx.Tx, snapshot warpket.ID) error {
	_, err := tx.Exec(ctx, `update snapshots n set unused_date = now() where n.id = $1
		and not exists (select from versions v where v.snapshot_id = n.id) and not exists (select from functions f where f.draft_id = n.id)`, snapshot)
	return err
}

// SweepSnapshots deletes up to a hundred snapshots that no version, draft,
// deployment, slot or open execution has had since before, with their files. The
// objects stay for a day longer: a file that was just taken over has them. It
// reports how many it deleted.
func (s *Store) SweepSnapshots(ctx context.Context, before time.Time) (int, error) {
	tag, err := s.pool.Exec(ctx, `with open as materialized (select distinct snapshot_id from executions where status in ('queued', 'running')),
		gone as materialized (select n.id from snapshots n where n.unused_date < $1
			and not exists (select from versions v where v.snapshot_id = n.id)
			and not exists (select from functions f where f.draft_id = n.id)
			and not exists (select from deployments d where d.snapshot_id = n.id)
			and not exists (select from slots s where s.snapshot_id = n.id)
			and not exists (select from open where open.snapshot_id = n.id)
			limit 100 for update of n skip locked),
		kept as (update objects o set touched_date = now() from gone join files f on f.snapshot_id = gone.id where o.project_id = f.project_id and o.sha256 = f.sha256)
		delete from snapshots n using gone where n.id = gone.id`, before)
	return int(tag.RowsAffected()), explain(err, "snapshot", "")
}
