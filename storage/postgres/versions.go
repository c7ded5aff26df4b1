package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Publish adds a version of a function under its next number. Publishing the
// same version ID again gives what is there. A draft that nobody has changed
// goes along.
func (s *Store) Publish(ctx context.Context, v warpket.Version) (warpket.Version, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return publish(ctx, tx, &v, insertFollowed) })
	return s.published(ctx, v, err)
}

// PublishDraft makes the draft of v's function the version v, under the next
// number. check may refuse what is the draft at that moment. Publishing the same
// version ID again gives what is there.
func (s *Store) PublishDraft(ctx context.Context, v warpket.Version, check func(warpket.Draft) error) (warpket.Version, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return publish(ctx, tx, &v, func(ctx context.Context, tx pgx.Tx, draft warpket.Draft, v warpket.Version) error {
			if err := check(draft); err != nil {
				return err
			}
			v.Snapshot = draft.Snapshot
			return insertNumber(ctx, tx, v)
		})
	})
	return s.published(ctx, v, err)
}

// published gives what was published, if it was.
func (s *Store) published(ctx context.Context, v warpket.Version, err error) (warpket.Version, error) {
	if err != nil {
		return v, explain(err, "function", v.FunctionID)
	}
	v, err = s.version(ctx, `v.id = $1 and v.function_id = $2`, v.ID, v.FunctionID)
	return v, explain(err, "version", v.ID)
}

// publish counts a version on, which sets its number, and has add write it.
func publish(ctx context.Context, tx pgx.Tx, v *warpket.Version, add func(context.Context, pgx.Tx, warpket.Draft, warpket.Version) error) error {
	// Those who publish take turns, so that the second of two that publish the
	// same version finds it.
	err := tx.QueryRow(ctx, `select next_version from functions where id = $1 and project_id = $2 for no key update`, v.FunctionID, v.ProjectID).Scan(&v.Number)
	if err != nil {
		return err
	}
	var exists bool
	if err := tx.QueryRow(ctx, `select exists (select from versions where id = $1 and function_id = $2)`, v.ID, v.FunctionID).Scan(&exists); err != nil || exists {
		return err
	}
	draft, err := draftOf(ctx, tx, v.ProjectID, v.FunctionID)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `update functions set next_version = $2 + 1, updated_date = $3,
		sdk_version = case when runtime_id is null then sdk_version else (select r.sdk_version from runtimes r where r.id = $4) end where id = $1`, v.FunctionID, v.Number, v.CreatedDate, cmp.Or(v.Snapshot.RuntimeID, draft.Snapshot.RuntimeID)); err != nil {
		return err
	}
	return add(ctx, tx, draft, *v)
}

// insertFollowed writes a version, which the draft follows unless somebody has
// changed it.
func insertFollowed(ctx context.Context, tx pgx.Tx, draft warpket.Draft, v warpket.Version) error {
	if err := insertVersion(ctx, tx, v); err != nil || draft.Changed {
		return err
	}
	if _, err := tx.Exec(ctx, `update functions set draft_id = $2 where id = $1 and draft_id is not null`, v.FunctionID, v.Snapshot.ID); err != nil {
		return err
	}
	if err := unused(ctx, tx, draft.Snapshot.ID); err != nil {
		return err
	}
	return moved(ctx, tx, v.ProjectID, v.FunctionID, draft.Snapshot.ID)
}

// insertVersion writes a version with its snapshot and files.
func insertVersion(ctx context.Context, tx pgx.Tx, v warpket.Version) error {
	v.Snapshot.ProjectID, v.Snapshot.FunctionID = v.ProjectID, v.FunctionID
	if err := insertSnapshot(ctx, tx, v.Snapshot); err != nil {
		return err
	}
	return insertNumber(ctx, tx, v)
}

// insertNumber writes a version of a snapshot that is there.
func insertNumber(ctx context.Context, tx pgx.Tx, v warpket.Version) error {
	_, err := tx.Exec(ctx, `insert into versions (id, project_id, function_id, number, description, snapshot_id, created_date) values ($1, $2, $3, $4, $5, $6, $7)`,
		v.ID, v.ProjectID, v.FunctionID, v.Number, v.Description, v.Snapshot.ID, v.CreatedDate)
	return err
}

// insertSnapshot writes a snapshot with its files.
func insertSnapshot(ctx context.Context, tx pgx.Tx, snap warpket.Snapshot) error {
	_, err := tx.Exec(ctx, `insert into snapshots (id, project_id, function_id, runtime_id, entry, digest, image, created_date, source) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		snap.ID, snap.ProjectID, snap.FunctionID, snap.RuntimeID, snap.Entry, snap.Digest, snap.Image, snap.CreatedDate, snap.Source)
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"files"},
		[]string{"id", "snapshot_id", "project_id", "position", "path", "language", "sha256", "size"},
		pgx.CopyFromSlice(len(snap.Files), func(i int) ([]any, error) {
			f := snap.Files[i]
			return []any{string(f.ID), string(snap.ID), string(snap.ProjectID), i, f.Path, f.Language, f.SHA256, f.Size}, nil
		}))
	return err
}

// Version gives a version of a function by its number, with its files; number
// 0 is the newest.
func (s *Store) Version(ctx context.Context, project, function warpket.ID, number int) (warpket.Version, error) {
	v, err := s.version(ctx, `v.project_id = $1 and v.function_id = $2 and ($3 = 0 or v.number = $3) order by v.number desc limit 1`, project, function, number)
	if err == nil || number > 0 {
		return v, explain(err, "version", number)
	}
	if err = explain(err, "version of function", function); warpket.KindOf(err) != warpket.NotFound {
		return v, err
	}
	if _, err := s.Function(ctx, project, function); err != nil {
		return v, err
	}
	return v, warpket.Errorf(warpket.NotFound, "function %s has no version yet: publish its draft, or ask for the draft", function)
}

// UpdateVersion lets change alter the description of a version; concurrent calls
// take turns.
func (s *Store) UpdateVersion(ctx context.Context, project, function warpket.ID, number int, now time.Time, change func(*warpket.Version) error) (warpket.Version, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		v, err := lockVersion(ctx, tx, project, function, number)
		if err != nil {
			return err
		}
		if err := change(&v); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update versions set description = $2, updated_date = $3 where id = $1`, v.ID, v.Description, now)
		return err
	})
	if err != nil {
		return warpket.Version{}, explain(err, "version", number)
	}
	return s.Version(ctx, project, function, number)
}

// lockVersion gives a version, without its files, that stays as it is until the
// transaction has ended.
func lockVersion(ctx context.Context, tx pgx.Tx, project, function warpket.ID, number int) (warpket.Version, error) {
	return one(ctx, tx, scanVersion, `select `+versionColumns+` where v.project_id = $1 and v.function_id = $2 and v.number = $3 for update of v`, project, function, number)
}

// referrers are what a version cannot be deleted for. Each query gives what to
// call those that refer to the version of a function ($1) with a number ($2).
// What refers to versions has its line here.
var referrers = []struct{ what, query string }{
	{"deployments", `select id::text from deployments where function_id = $1 and version_number = $2 and status not in ('failed', 'detached') order by id limit 20`},
	{"aliases", `select a.name from alias_versions r join aliases a on a.id = r.alias_id where r.function_id = $1 and r.version_number = $2 order by a.name limit 20`},
	{"webhooks", `select id::text from webhooks where function_id = $1 and version_number = $2 order by id limit 20`},
	{"schedules", `select id::text from schedules where function_id = $1 and version_number = $2 and status in ('running', 'paused') order by id limit 20`},
}

// DeleteVersion deletes a version to which nothing refers. Its number is not
// used again, and executions of it stay listed; those that are open run to their
// end. check may refuse what is the version at that moment.
func (s *Store) DeleteVersion(ctx context.Context, project, function warpket.ID, number int, now time.Time, check func(warpket.Version) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockFunction(ctx, tx, project, function); err != nil {
			return err
		}
		v, err := lockVersion(ctx, tx, project, function, number)
		if err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		for _, r := range referrers {
			names, err := many(ctx, tx, pgx.RowTo[string], r.query, function, number)
			if err != nil {
				return err
			}
			if len(names) > 0 {
				return warpket.Errorf(warpket.Conflict, "%s is used by the %s %s: end that first", warpket.VersionName(number), r.what, listed(names))
			}
		}
		draft, err := draftOf(ctx, tx, project, function)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from versions where id = $1`, v.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update functions set updated_date = $2 where id = $1`, function, now); err != nil {
			return err
		}
		err = moved(ctx, tx, project, function, draft.Snapshot.ID)
		if warpket.KindOf(explain(err, "draft", function)) == warpket.NotFound {
			return warpket.Errorf(warpket.Conflict, "%s is all the code that the function has: publish another version first, or delete the function", warpket.VersionName(number))
		}
		if err != nil {
			return err
		}
		return unused(ctx, tx, v.Snapshot.ID)
	})
	return explain(err, "version", number)
}

// VersionFilter narrows a list of versions. Zero fields do not.
type VersionFilter struct {
	Description warpket.Condition // text
	CreatedDate warpket.Condition // RFC 3339
}

// Versions lists the versions of a function, newest first, with their files.
func (s *Store) Versions(ctx context.Context, project, function warpket.ID, filter VersionFilter, page Page) ([]warpket.Version, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`v.project_id = $1 and v.function_id = $2 and v.id < $3`, project, function, before, rows)
	if err := w.compare(`v.description`, filter.Description, nil); err != nil {
		return nil, "", err
	}
	if err := w.compare(`v.created_date`, filter.CreatedDate, date("createdDate")); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanVersion, `select `+versionColumns+` where `+w.where.String()+` order by v.id desc limit $4`, w.args...)
	if err != nil {
		return nil, "", explain(err, "version", "")
	}
	items, next := cut(items, rows, func(v warpket.Version) warpket.ID { return v.ID })
	snapshots := make([]*warpket.Snapshot, len(items))
	for i := range items {
		snapshots[i] = &items[i].Snapshot
	}
	return items, next, addFiles(ctx, s.pool, snapshots...)
}

// Snapshot gives a snapshot with its files. It serves the system, not a
// caller, so it takes no tenant.
func (s *Store) Snapshot(ctx context.Context, id warpket.ID) (warpket.Snapshot, error) {
	n, err := one(ctx, s.pool, scanSnapshot, `select `+snapshotColumns+` from snapshots n join runtimes r on r.id = n.runtime_id where n.id = $1`, id)
	if err == nil {
		err = addFiles(ctx, s.pool, &n)
	}
	return n, explain(err, "snapshot", id)
}

// FilesByID gives those files of a function that have the IDs, whatever
// version they are of.
func (s *Store) FilesByID(ctx context.Context, project, function warpket.ID, ids []warpket.ID) (map[warpket.ID]warpket.File, error) {
	files, err := many(ctx, s.pool, scanFile, `select `+fileColumns+` from files f join snapshots n on n.id = f.snapshot_id
		where n.project_id = $1 and n.function_id = $2 and f.id = any ($3::uuid[])`, project, function, ids)
	if err != nil {
		return nil, explain(err, "file", "")
	}
	byID := make(map[warpket.ID]warpket.File, len(files))
	for _, f := range files {
		byID[f.ID] = f.File
	}
	return byID, nil
}

func (s *Store) version(ctx context.Context, where string, args ...any) (warpket.Version, error) {
	v, err := one(ctx, s.pool, scanVersion, `select `+versionColumns+` where `+where, args...)
	if err != nil {
		return v, err
	}
	err = addFiles(ctx, s.pool, &v.Snapshot)
	return v, err
}

// addFiles reads the files of snapshots. Several may be the same.
func addFiles(ctx context.Context, q querier, snapshots ...*warpket.Snapshot) error {
	byID := make(map[warpket.ID][]*warpket.Snapshot, len(snapshots))
	ids := make([]warpket.ID, len(snapshots))
	for i, n := range snapshots {
		ids[i] = n.ID
		byID[n.ID] = append(byID[n.ID], n)
	}
	files, err := many(ctx, q, scanFile, `select `+fileColumns+` from files f where f.snapshot_id = any ($1::uuid[]) order by f.position`, ids)
	if err != nil {
		return explain(err, "file", "")
	}
	for _, f := range files {
		for _, n := range byID[f.Snapshot] {
			n.Files = append(n.Files, f.File)
		}
	}
	return nil
}

const versionColumns = `v.id, v.project_id, v.function_id, v.number, v.description, v.created_date, coalesce(v.updated_date, v.created_date),
	coalesce((select true from deployments d where d.function_id = v.function_id and d.version_number = v.number and d.status not in ('failed', 'detached') limit 1), false),
	` + snapshotColumns + `
	from versions v join snapshots n on n.id = v.snapshot_id join runtimes r on r.id = n.runtime_id`

func scanVersion(row pgx.CollectableRow) (v warpket.Version, err error) {
	err = row.Scan(append([]any{&v.ID, &v.ProjectID, &v.FunctionID, &v.Number, &v.Description, &v.CreatedDate, &v.UpdatedDate, &v.Deployed}, snapshotFields(&v.Snapshot)...)...)
	return v, err
}

const snapshotColumns = `n.id, n.project_id, n.function_id, n.runtime_id, n.entry, n.digest, n.image, n.created_date, r.requirements, n.source`

// snapshotFields are where the columns of a snapshot go.
func snapshotFields(n *warpket.Snapshot) []any {
	return []any{&n.ID, &n.ProjectID, &n.FunctionID, &n.RuntimeID, &n.Entry, &n.Digest, &n.Image, &n.CreatedDate, &n.Requirements, &n.Source}
}

func scanSnapshot(row pgx.CollectableRow) (n warpket.Snapshot, err error) {
	err = row.Scan(snapshotFields(&n)...)
	return n, err
}

const fileColumns = `f.id, f.snapshot_id, f.path, f.language, f.sha256, f.size`

type fileRow struct {
	warpket.File
	Snapshot warpket.ID
}

func scanFile(row pgx.CollectableRow) (f fileRow, err error) {
	err = row.Scan(&f.ID, &f.Snapshot, &f.Path, &f.Language, &f.SHA256, &f.Size)
	return f, err
}
