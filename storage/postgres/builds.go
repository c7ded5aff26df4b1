package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// EnsureBuild gives the build of a snapshot for its architectures, adding it as
// pending if there is none.
func (s *Store) EnsureBuild(ctx context.Context, b warpket.Build) (warpket.Build, error) {
	_, err := s.pool.Exec(ctx, `insert into builds (id, project_id, snapshot_id, architectures, status, created_date, updated_date) values ($1, $2, $3, $4, $5, $6, $6)
		on conflict (snapshot_id, architectures) do nothing`, b.ID, b.ProjectID, b.SnapshotID, b.Architectures, warpket.BuildPending, b.CreatedDate)
	if err != nil {
		return b, explain(err, "build", b.ID)
	}
	b, err = one(ctx, s.pool, scanBuild, `select `+buildColumns+` from builds where snapshot_id = $1 and architectures = $2`, b.SnapshotID, b.Architectures)
	return b, explain(err, "build", b.ID)
}

// Build gives a build. It serves the system, not a caller, so it takes no
// tenant.
func (s *Store) Build(ctx context.Context, id warpket.ID) (warpket.Build, error) {
	b, err := one(ctx, s.pool, scanBuild, `select `+buildColumns+` from builds where id = $1`, id)
	return b, explain(err, "build", id)
}

// BuildOf gives the latest build of a project's snapshot, or nil if there is none.
func (s *Store) BuildOf(ctx context.Context, project, snapshot warpket.ID) (*warpket.Build, error) {
	found, err := many(ctx, s.pool, scanBuild, `select `+buildColumns+` from builds where snapshot_id = $1 and project_id = $2 order by id desc limit 1`, snapshot, project)
	if err != nil || len(found) == 0 {
		return nil, explain(err, "build", "")
	}
	return &found[0], nil
}

// FinishBuild records how a build has ended, once. The row of its program's
// object must be there.
func (s *Store) FinishBuild(ctx context.Context, b warpket.Build, now time.Time) error {
	_, err := s.pool.Exec(ctx, `update builds set status = $2, message = $3, log = $4, sha256 = nullif($5, ''), size = $6, updated_date = $7 where id = $1 and status = $8`,
		b.ID, b.Status, printed(b.Message), printed(b.Log), b.SHA256, b.Size, now, warpket.BuildPending)
	return explain(err, "build", b.ID)
}

// printed is what a program has printed, as Postgres can keep it.
func printed(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\ufffd"), "\ufffd")
}

const buildColumns = `id, project_id, snapshot_id, architectures, status, message, log, coalesce(sha256, ''), size, created_date, updated_date`

func scanBuild(row pgx.CollectableRow) (b warpket.Build, err error) {
	err = row.Scan(&b.ID, &b.ProjectID, &b.SnapshotID, &b.Architectures, &b.Status, &b.Message, &b.Log, &b.SHA256, &b.Size, &b.CreatedDate, &b.UpdatedDate)
	return b, err
}
