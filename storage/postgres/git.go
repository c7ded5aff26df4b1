package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Commits lists the commits of a function's versions, oldest first, those of
// deleted versions among them.
func (s *Store) Commits(ctx context.Context, project, function warpket.ID) ([]warpket.Commit, error) {
	commits, err := many(ctx, s.pool, pgx.RowToStructByPos[warpket.Commit], `select c.number, c.hash, v.id is null from commits c
		join functions f on f.id = c.function_id left join versions v on v.function_id = c.function_id and v.number = c.number
		where c.function_id = $1 and f.project_id = $2 order by c.number`, function, project)
	return commits, explain(err, "commit", "")
}

// Uncommitted lists versions of a function that have no commit yet, oldest
// first, with their files; at most limit.
func (s *Store) Uncommitted(ctx context.Context, project, function warpket.ID, limit int) ([]warpket.Version, error) {
	versions, err := many(ctx, s.pool, scanVersion, `select `+versionColumns+` where v.project_id = $1 and v.function_id = $2
		and v.number > coalesce((select max(number) from commits where function_id = $2), 0) order by v.number limit $3`, project, function, limit)
	if err != nil {
		return nil, explain(err, "version", "")
	}
	snapshots := make([]*warpket.Snapshot, len(versions))
	for i := range versions {
		snapshots[i] = &versions[i].Snapshot
	}
	return versions, addFiles(ctx, s.pool, snapshots...)
}

// BlobHashes gives what Git names bytes by, of those that the function's
// repository has, by their SHA-256.
func (s *Store) BlobHashes(ctx context.Context, project, function warpket.ID, sums []string) (map[string]string, error) {
	type pair struct{ SHA256, Hash string }
	pairs, err := many(ctx, s.pool, pgx.RowToStructByPos[pair], `select sha256, hash from git_objects where project_id = $1 and sha256 = any ($2) and function_id = $3`, project, sums, function)
	out := make(map[string]string, len(pairs))
	for _, p := range pairs {
		out[p.SHA256] = p.Hash
	}
	return out, explain(err, "Git object", "")
}

// GitObjects gives those of the objects that a function's repository has.
func (s *Store) GitObjects(ctx context.Context, project, function warpket.ID, hashes []string) ([]warpket.GitObject, error) {
	objects, err := many(ctx, s.pool, pgx.RowToStructByPos[warpket.GitObject], `select hash, kind, content, coalesce(sha256, ''), size from git_objects
		where function_id = $1 and project_id = $2 and hash = any ($3)`, function, project, hashes)
	return objects, explain(err, "Git object", "")
}

// AddCommit adds the commit of a version, made of the objects, after parent,
// which is the hash of the last commit, or empty for the first. It is a
// conflict if the history has gone on since.
func (s *Store) AddCommit(ctx context.Context, project, function warpket.ID, c warpket.Commit, parent string, objects []warpket.GitObject) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `select id from functions where id = $1 and project_id = $2 for no key update`, function, project).Scan(nil); err != nil {
			return err
		}
		if err := follows(ctx, tx, function, parent); err != nil {
			return err
		}
		_, err := insertCommit(ctx, tx, project, function, c, objects) // the versions were stored within the quota
		return err
	})
	return explain(err, "function", function)
}

// PublishCommit publishes a version with the commit that it was pushed as, made
// of the objects, after parent. It is a conflict if there is a version that the
// commit does not follow.
func (s *Store) PublishCommit(ctx context.Context, v warpket.Version, hash, parent string, objects []warpket.GitObject) (warpket.Version, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `select id from functions where id = $1 and project_id = $2 for no key update`, v.FunctionID, v.ProjectID).Scan(nil); err != nil {
			return err
		}
		if err := follows(ctx, tx, v.FunctionID, parent); err != nil {
			return err
		}
		var ahead bool
		if err := tx.QueryRow(ctx, `select exists (select from versions where function_id = $1 and number > coalesce((select max(number) from commits where function_id = $1), 0))`, v.FunctionID).Scan(&ahead); err != nil {
			return err
		}
		if ahead {
			return errNotLast
		}
		if err := publish(ctx, tx, &v, insertFollowed); err != nil {
			return err
		}
		added, err := insertCommit(ctx, tx, v.ProjectID, v.FunctionID, warpket.Commit{Number: v.Number, Hash: hash}, objects)
		if err != nil || added == 0 {
			return err
		}
		return mayStore(ctx, tx, v.ProjectID, added, v.CreatedDate)
	})
	if err != nil {
		return v, explain(err, "function", v.FunctionID)
	}
	return s.Version(ctx, v.ProjectID, v.FunctionID, v.Number)
}

// errNotLast says that somebody else was faster.
var errNotLast = warpket.Errorf(warpket.Conflict, "main has a version that yours does not follow: git pull --rebase, then push again")

// follows checks that parent is the last commit. The function is locked.
func follows(ctx context.Context, tx pgx.Tx, function warpket.ID, parent string) error {
	var last string
	err := tx.QueryRow(ctx, `select coalesce((select hash from commits where function_id = $1 order by number desc limit 1), '')`, function).Scan(&last)
	if err == nil && last != parent {
		return errNotLast
	}
	return err
}

// insertCommit writes a commit with what it is made of, and tells how many bytes
// of that are kept here.
func insertCommit(ctx context.Context, tx pgx.Tx, project, function warpket.ID, c warpket.Commit, objects []warpket.GitObject) (added int64, err error) {
	if _, err := tx.Exec(ctx, `insert into commits (function_id, number, hash) values ($1, $2, $3)`, function, c.Number, c.Hash); err != nil {
		return 0, err
	}
	var batch pgx.Batch
	for _, o := range objects {
		var content []byte // null for a blob
		var sum *string
		if o.Kind == "blob" {
			sum = &o.SHA256
		} else if content = o.Content; content == nil {
			content = []byte{}
		}
		batch.Queue(`insert into git_objects (function_id, hash, kind, content, project_id, sha256, size) values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`,
			function, o.Hash, o.Kind, content, project, sum, o.Size).
			Exec(func(tag pgconnTag) error {
				if sum == nil {
					added += tag.RowsAffected() * o.Size
				}
				return nil
			})
	}
	err = tx.SendBatch(ctx, &batch).Close()
	return added, err
}
