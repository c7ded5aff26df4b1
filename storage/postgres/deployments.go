package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateDeployment adds a deployment and the promise of its workflow. Its
// snapshot is the version's, or the draft's for the number 0, at that moment.
// Adding the same ID again does nothing.
func (s *Store) CreateDeployment(ctx context.Context, d warpket.Deployment) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Until it is there the draft stays as it is, and no version is deleted.
		if _, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select id from functions where id = $1 and project_id = $2 for share`, d.FunctionID, d.ProjectID); err != nil {
			return explain(err, "function", d.FunctionID)
		}
		err := tx.QueryRow(ctx, `select n.id, n.runtime_id from functions f join snapshots n on n.id = coalesce(
				case when $2 = 0 then f.draft_id end, (select v.snapshot_id from versions v where v.function_id = f.id and ($2 = 0 or v.number = $2) order by v.number desc limit 1)) where f.id = $1`,
			d.FunctionID, d.VersionNumber).Scan(&d.SnapshotID, &d.RuntimeID)
		if err != nil {
			return explain(err, "version", d.VersionNumber)
		}
		tag, err := tx.Exec(ctx, `insert into deployments (id, project_id, function_id, version_number, snapshot_id, runtime_id, slots, resources, status, created_date, updated_date, target, elastic)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12) on conflict (id) do nothing`,
			d.ID, d.ProjectID, d.FunctionID, d.VersionNumber, d.SnapshotID, d.RuntimeID, d.Slots, d.Resources, d.Status, d.CreatedDate, d.Target, d.Elastic)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := within(ctx, tx, d.ProjectID, warpket.SlotLimit, int64(d.Slots), countWanted, d.CreatedDate); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into outbox (kind, subject_id) values ('deploy', $1)`, d.ID)
		return err
	})
	return explain(err, "deployment", d.ID)
}

// Deployment gives a deployment of the project with where its slots are.
func (s *Store) Deployment(ctx context.Context, project, id warpket.ID) (warpket.Deployment, error) {
	return s.deployment(ctx, `d.id = $1 and d.project_id = $2`, id, project)
}

// DeploymentByID gives a deployment. It serves the system, not a caller, so it
// takes no tenant.
func (s *Store) DeploymentByID(ctx context.Context, id warpket.ID) (warpket.Deployment, error) {
	return s.deployment(ctx, `d.id = $1`, id)
}

func (s *Store) deployment(ctx context.Context, where string, id warpket.ID, more ...any) (warpket.Deployment, error) {
	d, err := one(ctx, s.pool, scanDeployment, `select `+deploymentColumns+` where `+where, append([]any{id}, more...)...)
	if err != nil {
		return d, explain(err, "deployment", id)
	}
	list := []warpket.Deployment{d}
	err = s.addPlacement(ctx, list)
	return list[0], err
}

// DeploymentFilter narrows a list of deployments. Zero fields do not.
type DeploymentFilter struct {
	FunctionID warpket.ID
	Status     warpket.DeploymentStatus
	Version    *int         // 0 for the draft's
	Functions  []warpket.ID // only of these; nil for all
}

// Deployments lists the deployments of a project.
func (s *Store) Deployments(ctx context.Context, project warpket.ID, filter DeploymentFilter, page Page) ([]warpket.Deployment, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`d.project_id = $1 and d.id < $2`, project, before, rows)
	if filter.FunctionID != "" {
		w.and(`d.function_id = $%d`, filter.FunctionID)
	}
	if filter.Status != "" {
		w.and(`d.status = $%d`, filter.Status)
	}
	if filter.Version != nil {
		w.and(`d.version_number = $%d`, *filter.Version)
	}
	if filter.Functions != nil {
		w.and(`d.function_id = any ($%d::uuid[])`, filter.Functions)
	}
	items, err := planned(ctx, s.pool, scanDeployment, `select `+deploymentColumns+` where `+w.where.String()+` order by d.id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "deployment", "")
	}
	items, next := cut(items, rows, func(d warpket.Deployment) warpket.ID { return d.ID })
	return items, next, s.addPlacement(ctx, items)
}

// OpenDeployments gives the IDs of all deployments that should have a workflow.
func (s *Store) OpenDeployments(ctx context.Context) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from deployments where status not in ('failed', 'detached') order by id`)
	return ids, explain(err, "deployment", "")
}

// UnsettledDeployments gives the IDs of deployments that lack slots or have
// outdated ones: news of capacity is for them.
func (s *Store) UnsettledDeployments(ctx context.Context) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from deployments where status in ('placing', 'preparing', 'degraded')
		or status = 'ready' and exists (select from slots s join functions f on f.id = s.function_id where s.deployment_id = deployments.id and s.status = 'ready' and (s.revision < f.revision or s.snapshot_id <> deployments.snapshot_id)) order by id`)
	return ids, explain(err, "deployment", "")
}

// FunctionDeployments gives the IDs of a function's deployments that should
// have a workflow.
func (s *Store) FunctionDeployments(ctx context.Context, function warpket.ID) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from deployments where function_id = $1 and status not in ('failed', 'detached') order by id`, function)
	return ids, explain(err, "deployment", "")
}

// AdvanceDeployment moves a deployment to a status if that step is legal, and
// tells who waits for it. It serves the system, so it takes no tenant.
func (s *Store) AdvanceDeployment(ctx context.Context, id warpket.ID, to warpket.DeploymentStatus, message string, now time.Time) error {
	return s.changeDeployment(ctx, id, func(d *warpket.Deployment) error { return d.Advance(to, message, now) })
}

// TellDeployment tells who waits for a deployment that its slots have changed.
func (s *Store) TellDeployment(ctx context.Context, id warpket.ID) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return notify(ctx, tx, DeploymentChanged, id) })
	return explain(err, "deployment", id)
}

// ScaleDeployment sets how many slots a deployment wants, if the quota of its
// project has room for them. Unless seen is zero it has to be as it was when it had
// last changed then. Wanting again what is wanted does nothing.
func (s *Store) ScaleDeployment(ctx context.Context, id warpket.ID, slots int, seen, now time.Time) error {
	return s.changeDeployment(ctx, id, func(d *warpket.Deployment) error {
		switch {
		case d.Status.Final():
			return warpket.Errorf(warpket.Conflict, "deployment %s is %s and cannot be scaled: deploy the version anew", id, d.Status)
		case d.Slots == slots:
			return nil
		case !seen.IsZero() && !seen.Equal(d.UpdatedDate):
			return warpket.Errorf(warpket.Stale, "the deployment has changed since you read it: read it again and decide")
		}
		d.Slots, d.UpdatedDate = slots, now
		return nil
	})
}

func (s *Store) changeDeployment(ctx context.Context, id warpket.ID, change func(*warpket.Deployment) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		d, err := one(ctx, tx, scanDeployment, `select `+deploymentColumns+` where d.id = $1 for update of d`, id)
		if err != nil {
			return err
		}
		before := d.Slots
		if err := change(&d); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update deployments set status = $2, message = $3, slots = $4, updated_date = $5 where id = $1`, id, d.Status, d.Message, d.Slots, d.UpdatedDate); err != nil {
			return err
		}
		if more := d.Slots - before; more > 0 {
			if err := within(ctx, tx, d.ProjectID, warpket.SlotLimit, int64(more), countWanted, d.UpdatedDate); err != nil {
				return err
			}
		}
		return notify(ctx, tx, DeploymentChanged, id)
	})
	return explain(err, "deployment", id)
}

// DeleteDeployment removes the record of a deployment that holds no slots.
func (s *Store) DeleteDeployment(ctx context.Context, project, id warpket.ID) error {
	tag, err := s.pool.Exec(ctx, `delete from deployments where id = $1 and project_id = $2 and status in ('failed', 'detached')
		and not exists (select from slots where deployment_id = $1)`, id, project)
	if err == nil && tag.RowsAffected() == 0 {
		if _, err := s.Deployment(ctx, project, id); err != nil {
			return err
		}
		return warpket.Errorf(warpket.Conflict, "deployment %s still holds slots: detach it first", id)
	}
	return explain(err, "deployment", id)
}

func (s *Store) addPlacement(ctx context.Context, list []warpket.Deployment) error {
	index := make(map[warpket.ID]int, len(list))
	ids := make([]warpket.ID, len(list))
	for i, d := range list {
		ids[i], index[d.ID] = d.ID, i
	}
	type place struct {
		deployment warpket.ID
		revision   int
		snapshot   warpket.ID
		leaving    bool
		warpket.SlotPlace
	}
	places, err := planned(ctx, s.pool, func(row pgx.CollectableRow) (p place, err error) {
		err = row.Scan(&p.deployment, &p.revision, &p.snapshot, &p.Slot, &p.Node, &p.Status, &p.Reason, &p.Isolation, &p.Devices, &p.Simulated, &p.leaving, &p.Decision, &p.Yields)
		return p, err
	}, `select deployment_id, revision, snapshot_id, slots.id, n.name, status, reason, coalesce(n.inventory->'isolation', '{}'), array(select v.id from devices v where v.slot_id = slots.id order by v.id),
		(select count(*) from devices v where v.slot_id = slots.id and v.device @> '{"simulated": true}') > 0, `+leaving+`, decision, yields_to is not null
		from slots join nodes n on n.id = slots.node_id where deployment_id = any ($1::uuid[]) order by slots.id`, ids)
	if err != nil {
		return explain(err, "slot", "")
	}
	for _, p := range places {
		d := &list[index[p.deployment]]
		d.Placement = append(d.Placement, p.SlotPlace)
		if p.Status == warpket.SlotReady && p.revision >= d.Revision && p.snapshot == d.SnapshotID && !p.leaving {
			d.Ready++
		}
	}
	return nil
}

const deploymentColumns = `d.id, d.project_id, d.function_id, f.name, d.version_number, d.snapshot_id, d.runtime_id, d.slots, d.resources, d.status, d.message, d.created_date, d.updated_date, f.revision, d.target, d.elastic, coalesce(nullif(f.settings->>'Network', 'none'), '')
	from deployments d join functions f on f.id = d.function_id`

func scanDeployment(row pgx.CollectableRow) (d warpket.Deployment, err error) {
	err = row.Scan(&d.ID, &d.ProjectID, &d.FunctionID, &d.FunctionName, &d.VersionNumber, &d.SnapshotID, &d.RuntimeID, &d.Slots, &d.Resources, &d.Status, &d.Message, &d.CreatedDate, &d.UpdatedDate, &d.Revision, &d.Target, &d.Elastic, &d.Resources.Network) // its slots have the network that the function has now
	return d, err
}
