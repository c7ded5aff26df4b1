package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Publish adds a version of a function under its next number. Publishing the
// same version ID again gives what is there.
func (s *Store) Publish(ctx context.Context, v warpket.Version) (warpket.Version, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Those who publish take turns, so that the second of two that publish
		// the same version finds it.
		err := tx.QueryRow(ctx, `select next_version from functions where id = $1 and project_id = $2 for no key update`, v.FunctionID, v.ProjectID).Scan(&v.Number)
		if err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, `select exists (select from versions where id = $1 and function_id = $2)`, v.ID, v.FunctionID).Scan(&exists); err != nil || exists {
			return err
		}
		if _, err := tx.Exec(ctx, `update functions set next_version = $2 + 1, updated_date = $3,
			sdk_version = case when runtime_id is null then sdk_version else (select r.sdk_version from runtimes r where r.id = $4) end where id = $1`, v.FunctionID, v.Number, v.CreatedDate, v.Snapshot.RuntimeID); err != nil {
			return err
		}
		return insertVersion(ctx, tx, v)
	})
	if err != nil {
		return v, explain(err, "function", v.FunctionID)
	}
	v, err = s.version(ctx, `v.id = $1 and v.function_id = $2`, v.ID, v.FunctionID)
	return v, explain(err, "version", v.ID)
}

// insertVersion writes a version with its snapshot and files.
func insertVersion(ctx context.Context, tx pgx.Tx, v warpket.Version) error {
	snap := v.Snapshot
	_, err := tx.Exec(ctx, `insert into snapshots (id, project_id, function_id, runtime_id, entry, digest, image, created_date) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
		snap.ID, v.ProjectID, v.FunctionID, snap.RuntimeID, snap.Entry, snap.Digest, snap.Image, snap.CreatedDate)
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"files"},
		[]string{"id", "snapshot_id", "project_id", "position", "path", "language", "sha256", "size"},
		pgx.CopyFromSlice(len(snap.Files), func(i int) ([]any, error) {
			f := snap.Files[i]
			return []any{string(f.ID), string(snap.ID), string(v.ProjectID), i, f.Path, f.Language, f.SHA256, f.Size}, nil
		}))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into versions (id, project_id, function_id, number, description, snapshot_id, created_date) values ($1, $2, $3, $4, $5, $6, $7)`,
		v.ID, v.ProjectID, v.FunctionID, v.Number, v.Description, snap.ID, v.CreatedDate)
	return err
}

// Version gives a version of a function by its number, with its files; number
// 0 is the newest.
func (s *Store) Version(ctx context.Context, project, function warpket.ID, number int) (warpket.Version, error) {
	v, err := s.version(ctx, `v.project_id = $1 and v.function_id = $2 and ($3 = 0 or v.number = $3) order by v.number desc limit 1`, project, function, number)
	if err != nil && number > 0 {
		return v, explain(err, "version", number)
	}
	return v, explain(err, "version of function", function)
}

// Versions lists the versions of a function, newest first, with their files.
func (s *Store) Versions(ctx context.Context, project, function warpket.ID, page Page) ([]warpket.Version, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanVersion, `select `+versionColumns+` where v.project_id = $1 and v.function_id = $2 and v.id < $3 order by v.id desc limit $4`, project, function, before, rows)
	if err != nil {
		return nil, "", explain(err, "version", "")
	}
	items, next := cut(items, rows, func(v warpket.Version) warpket.ID { return v.ID })
	if err := s.addFiles(ctx, items); err != nil {
		return nil, "", err
	}
	return items, next, nil
}

// Snapshot gives a snapshot with its files. It serves the system, not a
// caller, so it takes no tenant.
func (s *Store) Snapshot(ctx context.Context, id warpket.ID) (warpket.Snapshot, error) {
	v, err := s.version(ctx, `v.snapshot_id = $1`, id)
	return v.Snapshot, explain(err, "snapshot", id)
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
	list := []warpket.Version{v}
	err = s.addFiles(ctx, list)
	return list[0], err
}

func (s *Store) addFiles(ctx context.Context, versions []warpket.Version) error {
	index := make(map[warpket.ID]int, len(versions))
	ids := make([]warpket.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.Snapshot.ID
		index[v.Snapshot.ID] = i
	}
	files, err := many(ctx, s.pool, scanFile, `select `+fileColumns+` from files f where f.snapshot_id = any ($1::uuid[]) order by f.position`, ids)
	if err != nil {
		return explain(err, "file", "")
	}
	for _, f := range files {
		snap := &versions[index[f.Snapshot]].Snapshot
		snap.Files = append(snap.Files, f.File)
	}
	return nil
}

const versionColumns = `v.id, v.project_id, v.function_id, v.number, v.description, v.created_date,
	exists (select from deployments d where d.snapshot_id = v.snapshot_id and d.status not in ('failed', 'detached')),
	n.id, n.runtime_id, n.entry, n.digest, n.image, n.created_date, r.requirements
	from versions v join snapshots n on n.id = v.snapshot_id join runtimes r on r.id = n.runtime_id`

func scanVersion(row pgx.CollectableRow) (v warpket.Version, err error) {
	n := &v.Snapshot
	err = row.Scan(&v.ID, &v.ProjectID, &v.FunctionID, &v.Number, &v.Description, &v.CreatedDate, &v.Deployed,
		&n.ID, &n.RuntimeID, &n.Entry, &n.Digest, &n.Image, &n.CreatedDate, &n.Requirements)
	n.ProjectID, n.FunctionID = v.ProjectID, v.FunctionID
	return v, err
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
