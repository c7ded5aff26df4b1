package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// LeaseSlot takes what the slot needs on its node: cores and memory by guarded
// counters, devices by their unique holder. Somebody else may have taken it
// since the placement was made: then the error is Conflict and the caller
// places again. It is OverQuota when the project may have no more slots. The
// slot comes back with its generation.
func (s *Store) LeaseSlot(ctx context.Context, slot warpket.Slot) (warpket.Slot, error) {
	cpu, memory := slot.Resources.OfNode(slot.Devices)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update nodes set cpu_leased = cpu_leased + $2, memory_leased = memory_leased + $3
			where id = $1 and cpu_leased + $2 <= cpu and memory_leased + $3 <= memory and not cordoned and lease_until > now()`,
			slot.NodeID, cpu, memory)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return warpket.Errorf(warpket.Conflict, "the place for slot %s was taken meanwhile", slot.ID)
		}
		err = tx.QueryRow(ctx, `insert into slots (id, node_id, deployment_id, project_id, function_id, snapshot_id, runtime_id, status, resources, reason, created_date, decision, charge)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) returning generation`,
			slot.ID, slot.NodeID, orNull(slot.DeploymentID), slot.ProjectID, slot.FunctionID, slot.SnapshotID, slot.RuntimeID, slot.Status, slot.Resources, slot.Reason, slot.CreatedDate, slot.Decision, slot.Resources.Charge()).
			Scan(&slot.Generation)
		if err == nil {
			err = within(ctx, tx, slot.ProjectID, warpket.SlotLimit, 1, countSlots, slot.CreatedDate)
		}
		if err != nil || len(slot.Devices) == 0 {
			return err
		}
		tag, err = tx.Exec(ctx, `update devices set slot_id = $1 where node_id = $2 and id = any ($3) and slot_id is null and fault is null`, slot.ID, slot.NodeID, slot.Devices)
		if err == nil && int(tag.RowsAffected()) < len(slot.Devices) {
			err = warpket.Errorf(warpket.Conflict, "a device for slot %s was taken meanwhile", slot.ID)
		}
		return err
	})
	return slot, explain(err, "slot", slot.ID)
}

// SlotIsReady records that the slot's worker serves, and with which revision of
// its function's configuration. It is a Conflict when the slot was handed out
// again or given up meanwhile.
func (s *Store) SlotIsReady(ctx context.Context, id warpket.ID, generation int64, revision int) error {
	tag, err := s.pool.Exec(ctx, `update slots set status = 'ready', revision = $3 where id = $1 and generation = $2 and status in ('preparing', 'ready')`, id, generation, revision)
	if err == nil && tag.RowsAffected() == 0 {
		return warpket.Errorf(warpket.Conflict, "slot %s is no longer held", id)
	}
	return explain(err, "slot", id)
}

// ReleaseSlot gives back all that the slot held. Its node must have ended the
// slot's programs before. Releasing it again does nothing.
func (s *Store) ReleaseSlot(ctx context.Context, id warpket.ID, generation int64) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return release(ctx, tx, `id = $1 and generation = $2`, id, generation)
	})
	return explain(err, "slot", id)
}

// SlotEnded releases a slot that its node has ended by itself, and says of its
// deployment that it is no longer ready.
func (s *Store) SlotEnded(ctx context.Context, slot warpket.Slot) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := release(ctx, tx, `id = $1 and generation = $2`, slot.ID, slot.Generation); err != nil {
			return err
		}
		return degradeFor(ctx, tx, []warpket.Slot{slot})
	})
	return explain(err, "slot", slot.ID)
}

// release deletes the slots that the condition names and returns what they
// held. Nodes are locked before their slots, as everywhere. What the slots have
// kept from others is charged to their projects.
func release(ctx context.Context, tx pgx.Tx, where string, args ...any) error {
	nodes, err := many(ctx, tx, pgx.RowTo[warpket.ID], `with locked as materialized (select id as node from nodes where id in (select node_id from slots where `+where+`) order by id for update),
		gone as (delete from slots where `+where+` and node_id in (select node from locked) returning node_id, `+ofNode+` * (resources->>'cpu')::int as cpu, `+ofNode+` * (resources->>'memory')::bigint as memory, project_id, charge, created_date),
		charged as (insert into project_use (project_id, used, updated_date) select project_id, sum(`+decayed(`charge`, `created_date`)+`), now() from gone group by project_id order by project_id
			on conflict (project_id) do update set used = `+left(`project_use.used`, `project_use.updated_date`)+` + excluded.used, updated_date = now()),
		sums as (select node_id, sum(cpu)::int as cpu, sum(memory)::bigint as memory from gone group by node_id)
		update nodes n set cpu_leased = greatest(0, cpu_leased - sums.cpu), memory_leased = greatest(0, memory_leased - sums.memory) from sums where n.id = sums.node_id returning n.id`, args...)
	if err != nil {
		return err
	}
	for _, id := range nodes {
		if err := notify(ctx, tx, CapacityFreed, id); err != nil {
			return err
		}
	}
	return nil
}

// ofNode is 1 for a slot that has its cores and memory of its node, else 0; see
// warpket.Resources.OfNode.
const ofNode = `(resources ? 'gpus' or not exists (select from devices v where v.slot_id = slots.id))::int`

// DeploymentSlots gives the slots of a deployment.
func (s *Store) DeploymentSlots(ctx context.Context, deployment warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where deployment_id = $1 order by id`, deployment)
	return slots, explain(err, "slot", "")
}

// DeployedSlots gives the slots that hold a snapshot for deployments which see to
// all its executions: those that are not elastic.
func (s *Store) DeployedSlots(ctx context.Context, snapshot warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where snapshot_id = $1 and deployment_id in (select id from deployments where not elastic) order by id`, snapshot)
	return slots, explain(err, "slot", "")
}

// WorkerFilter narrows a list of workers. Zero fields do not.
type WorkerFilter struct {
	Version *int // 0 for those of drafts
}

// Workers lists the workers of a function, with the slots that are being prepared
// for one.
func (s *Store) Workers(ctx context.Context, project, function warpket.ID, filter WorkerFilter, page Page) ([]warpket.Worker, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanWorker, `select s.id, s.node_id, n.name, coalesce(s.deployment_id::text, ''), s.snapshot_id, w.version, s.status, s.resources, s.reason, s.created_date,
			array(select v.id from devices v where v.slot_id = s.id order by v.id)
		from slots s join nodes n on n.id = s.node_id
		cross join lateral (select coalesce((select d.version_number from deployments d where d.id = s.deployment_id), (select max(v.number) from versions v where v.snapshot_id = s.snapshot_id), 0) as version) w
		where s.function_id = $2 and s.project_id = $1 and s.id < $3 and ($4::int is null or w.version = $4) order by s.id desc limit $5`, project, function, before, filter.Version, rows)
	if err != nil {
		return nil, "", explain(err, "worker", "")
	}
	items, next := cut(items, rows, func(w warpket.Worker) warpket.ID { return w.Slot })
	return items, next, nil
}

func scanWorker(row pgx.CollectableRow) (w warpket.Worker, err error) {
	err = row.Scan(&w.Slot, &w.NodeID, &w.Node, &w.Deployment, &w.Snapshot, &w.Version, &w.Status, &w.Resources, &w.Reason, &w.Since, &w.Devices)
	return w, err
}

// NodeSlots gives the slots of a node.
func (s *Store) NodeSlots(ctx context.Context, node warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where node_id = $1 order by id`, node)
	return slots, explain(err, "slot", "")
}

// OutdatedSlots gives the slots on demand that have an earlier revision than
// their function, or that have to leave where they are: those of one function,
// or of all if it is empty.
func (s *Store) OutdatedSlots(ctx context.Context, function warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots
		where ($1::uuid is null or function_id = $1) and deployment_id is null and status = 'ready'
		and (revision < (select f.revision from functions f where f.id = slots.function_id) or `+leaving+`) order by id limit 1000`, orNull(function))
	return slots, explain(err, "slot", "")
}

// LeavingSlots gives the slots of a node that have to go, for it is drained or a
// device of theirs has a fault.
func (s *Store) LeavingSlots(ctx context.Context, node warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where node_id = $1 and `+leaving+` order by id`, node)
	return slots, explain(err, "slot", "")
}

// OrphanSlots gives the slots of functions that are gone and of deployments that
// have ended: what a process that died had left to release.
func (s *Store) OrphanSlots(ctx context.Context) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots
		where not exists (select from functions f where f.id = slots.function_id)
		or exists (select from deployments d where d.id = slots.deployment_id and d.status in ('failed', 'detached'))
		or deployment_id is null and status = 'preparing' and created_date < now() - interval '1 hour'
		order by id limit 100`)
	return slots, explain(err, "slot", "")
}

// SlotByID gives one slot.
func (s *Store) SlotByID(ctx context.Context, id warpket.ID) (warpket.Slot, error) {
	slot, err := one(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where id = $1`, id)
	return slot, explain(err, "slot", id)
}

// OnDemandSlots gives those of some slots that no deployment has, in the order
// in which they are named.
func (s *Store) OnDemandSlots(ctx context.Context, ids []warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where id = any ($1) and deployment_id is null order by array_position($1::uuid[], id)`, ids)
	return slots, explain(err, "slot", "")
}

// HeldOnDemand gives slots that no deployment has, the newest first: up to 500.
// Those of lost nodes are none: nobody knows when they end.
func (s *Store) HeldOnDemand(ctx context.Context) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where deployment_id is null and status <> 'lost' order by id desc limit 500`)
	return slots, explain(err, "slot", "")
}

const slotColumns = `id, node_id, coalesce(deployment_id::text, ''), project_id, function_id, snapshot_id, runtime_id, generation, status, revision, resources, reason, created_date,
	array(select v.id from devices v where v.slot_id = slots.id order by v.id), ` + leaving

// leaving is whether a slot has to go from where it is.
// It counts, for the planner turns "exists" into a table of its own of all that there are.
const leaving = `(slots.yields_to is not null or coalesce((select n.draining from nodes n where n.id = slots.node_id), false) or (select count(*) from devices v where v.slot_id = slots.id and v.fault is not null) > 0)`

func scanSlot(row pgx.CollectableRow) (s warpket.Slot, err error) {
	err = row.Scan(&s.ID, &s.NodeID, &s.DeploymentID, &s.ProjectID, &s.FunctionID, &s.SnapshotID, &s.RuntimeID, &s.Generation, &s.Status, &s.Revision, &s.Resources, &s.Reason, &s.CreatedDate, &s.Devices, &s.Leaving)
	return s, err
}
