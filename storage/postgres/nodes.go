package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateNodeToken adds a one-time token with which a node may join.
func (s *Store) CreateNodeToken(ctx context.Context, id warpket.ID, secretHash []byte, now, expires time.Time) error {
	_, err := s.pool.Exec(ctx, `insert into node_tokens (id, secret_hash, created_date, expires_date) values ($1, $2, $3, $4)`, id, secretHash, now, expires)
	return explain(err, "node token", id)
}

// JoinNode spends a one-time token on a node: it adds the node, or takes it
// over when one of that name had joined before (its machine was set up anew).
func (s *Store) JoinNode(ctx context.Context, token warpket.ID, secretHash []byte, node warpket.Node) (warpket.ID, error) {
	id := node.ID
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update node_tokens set used_date = $3 where id = $1 and secret_hash = $2 and used_date is null and expires_date > $3`, token, secretHash, node.CreatedDate)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return warpket.Errorf(warpket.Unauthenticated, "this node token is spent, expired or wrong: ask an operator for a new one (POST /v1/nodes/tokens)")
		}
		return tx.QueryRow(ctx, `insert into nodes (id, name, boot, inventory, cpu, memory, lease_until, created_date) values ($1, $2, $3, $4, 0, 0, now(), $5)
			on conflict (name) do update set boot = excluded.boot returning id`,
			node.ID, node.Name, node.Boot, node.Inventory, node.CreatedDate).Scan(&id)
	})
	return id, explain(err, "node", node.Name)
}

// NodeIsUp records that an agent has connected, with what it has. held are the
// slot generations that it still holds. All other slots of the node are over,
// for the agent answers for the machine: they are released. It gives those
// slots and the deployments that have to be reconciled.
func (s *Store) NodeIsUp(ctx context.Context, id, boot warpket.ID, inventory warpket.Inventory, held map[warpket.ID]int64) (over []warpket.Slot, deployments []warpket.ID, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var machine string
		if err := tx.QueryRow(ctx, `select coalesce(inventory->>'machine', '') from nodes where id = $1 for update`, id).Scan(&machine); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update nodes set boot = $2, inventory = $3, cpu = $4, memory = $5, lost = false, fenced = false, loads = '{}', lease_until = now() + $6 where id = $1`,
			id, boot, inventory, inventory.CPU, inventory.Memory, warpket.Lease)
		if err != nil {
			return err
		}
		slots, err := many(ctx, tx, scanSlot, `select `+slotColumns+` from slots where node_id = $1 for update`, id)
		if err != nil {
			return err
		}
		for _, slot := range slots {
			if generation, ok := held[slot.ID]; ok && generation == slot.Generation {
				if slot.Status == warpket.SlotLost { // its deployment makes sure that it serves
					if _, err := tx.Exec(ctx, `update slots set status = case when deployment_id is null then 'ready' else 'preparing' end where id = $1`, slot.ID); err != nil {
						return err
					}
					deployments = append(deployments, slot.DeploymentID)
				}
				continue
			}
			over = append(over, slot)
			deployments = append(deployments, slot.DeploymentID)
			if err := release(ctx, tx, `id = $1`, slot.ID); err != nil {
				return err
			}
		}
		if err := saveDevices(ctx, tx, id, inventory.Devices, machine != inventory.Machine && machine != ""); err != nil {
			return err
		}
		if len(over) > 0 {
			if err := degradeFor(ctx, tx, over); err != nil {
				return err
			}
		}
		if err := notify(ctx, tx, NodeChanged, id); err != nil {
			return err
		}
		return notify(ctx, tx, CapacityFreed, id)
	})
	return over, distinct(deployments), explain(err, "node", id)
}

// degradeFor says of deployments that were ready that they are not, for these of
// their slots serve no longer.
func degradeFor(ctx context.Context, tx pgx.Tx, slots []warpket.Slot) error {
	var ids []warpket.ID
	for _, slot := range slots {
		ids = append(ids, slot.DeploymentID)
	}
	return degrade(ctx, tx, "slots were lost; new ones are being prepared", `id = any ($2::uuid[])`, distinct(ids))
}

// degradeLeaving says so of deployments with slots that have to leave the node.
func degradeLeaving(ctx context.Context, tx pgx.Tx, node warpket.ID) error {
	return degrade(ctx, tx, "slots have to leave their node; new ones are being prepared", `id in (select deployment_id from slots where node_id = $2 and `+leaving+`)`, node)
}

// degrade says why of deployments that were ready that they are not; $1 of the
// condition is taken.
func degrade(ctx context.Context, tx pgx.Tx, why, where string, args ...any) error {
	changed, err := many(ctx, tx, pgx.RowTo[warpket.ID], `update deployments set status = 'degraded', message = $1, updated_date = now()
		where `+where+` and status = 'ready' returning id`, append([]any{why}, args...)...)
	if err != nil {
		return err
	}
	for _, id := range changed {
		if err := notify(ctx, tx, DeploymentChanged, id); err != nil {
			return err
		}
	}
	return nil
}

// saveDevices makes the rows of a node's devices those that it reports. A
// device that a slot holds stays until the slot is gone. A fault stays until
// the machine has started anew, or an operator has cleared it.
func saveDevices(ctx context.Context, tx pgx.Tx, node warpket.ID, devices []warpket.Device, restarted bool) error {
	ids := make([]string, len(devices))
	for i, d := range devices {
		ids[i] = d.ID
		_, err := tx.Exec(ctx, `insert into devices (node_id, id, kind, device, fault) values ($1, $2, $3, $4, nullif($5, ''))
			on conflict (node_id, id) do update set kind = excluded.kind, device = excluded.device,
				fault = case when $6 then excluded.fault when excluded.fault is null or excluded.fault = devices.cleared then devices.fault else excluded.fault end,
				cleared = case when $6 then null else devices.cleared end`, node, d.ID, d.Kind, d, d.Fault, restarted)
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `delete from devices where node_id = $1 and not id = any ($2) and slot_id is null`, node, ids)
	return err
}

// RenewNode extends the node's lease, by Postgres' clock, notes what it keeps
// ready, and records what its devices do, unless that is nil. It is a Conflict
// when another agent has connected as this node since.
func (s *Store) RenewNode(ctx context.Context, id, boot warpket.ID, kept []warpket.KeptReady, loads map[string]warpket.Load) error {
	if kept == nil {
		kept = []warpket.KeptReady{}
	}
	tag, err := s.pool.Exec(ctx, `update nodes set lease_until = now() + $3, kept_ready = $4, loads = coalesce($5, loads) where id = $1 and boot = $2 and not lost`, id, boot, warpket.Lease, kept, loads)
	if err == nil && tag.RowsAffected() == 0 {
		return takenOver(id)
	}
	return explain(err, "node", id)
}

func takenOver(node warpket.ID) error {
	return warpket.Errorf(warpket.Conflict, "node %s was given up or taken over: connect anew", node)
}

// NodeHas records that a device of a node has changed; devices are all that it
// has. It is a Conflict when another agent has connected as this node since.
func (s *Store) NodeHas(ctx context.Context, id, boot warpket.ID, devices []warpket.Device) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update nodes set inventory = jsonb_set(inventory, '{devices}', $3) where id = $1 and boot = $2 and not lost`, id, boot, devices)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return takenOver(id)
		}
		if err := saveDevices(ctx, tx, id, devices, false); err != nil {
			return err
		}
		if err := degradeLeaving(ctx, tx, id); err != nil {
			return err
		}
		return notify(ctx, tx, NodeChanged, id)
	})
	return explain(err, "node", id)
}

// LoseSilentNodes marks the slots of nodes whose lease has run out as lost, in
// one update, and gives the nodes and the deployments to be reconciled.
// Whatever the slots hold stays leased: a time-out does not prove that a
// program has stopped.
func (s *Store) LoseSilentNodes(ctx context.Context) (nodes, deployments []warpket.ID, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		nodes, err = many(ctx, tx, pgx.RowTo[warpket.ID], `update nodes set lost = true where lease_until < now() and not lost returning id`)
		if err != nil || len(nodes) == 0 {
			return err
		}
		for _, id := range nodes {
			if err := notify(ctx, tx, NodeChanged, id); err != nil {
				return err
			}
		}
		slots, err := many(ctx, tx, scanSlot, `update slots set status = 'lost' where node_id = any ($1::uuid[]) returning `+slotColumns, nodes)
		if err != nil {
			return err
		}
		for _, slot := range slots {
			deployments = append(deployments, slot.DeploymentID)
		}
		return degradeFor(ctx, tx, slots)
	})
	return nodes, distinct(deployments), explain(err, "node", "")
}

// SilentNode reports whether the node's lease has run out.
func (s *Store) SilentNode(ctx context.Context, id warpket.ID) (silent bool, boot warpket.ID, err error) {
	err = s.pool.QueryRow(ctx, `select lease_until < now(), boot from nodes where id = $1`, id).Scan(&silent, &boot)
	return silent, boot, explain(err, "node", id)
}

// UpdateNode changes what operators say of a node. Concurrent changes take turns.
func (s *Store) UpdateNode(ctx context.Context, id warpket.ID, change func(*warpket.Node) error) (n warpket.Node, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if n, err = one(ctx, tx, scanNode, `select `+nodeColumns+` from nodes where id = $1 for update`, id); err != nil {
			return err
		}
		if err := change(&n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update nodes set labels = $2, cordoned = $3, draining = $4, updated_date = $5 where id = $1`, id, n.Labels, n.Cordoned, n.Draining, n.UpdatedDate)
		if err != nil {
			return err
		}
		if err := degradeLeaving(ctx, tx, id); err != nil {
			return err
		}
		if err := notify(ctx, tx, NodeChanged, id); err != nil || n.Cordoned {
			return err
		}
		return notify(ctx, tx, CapacityFreed, id) // it may have been cordoned, or got the label that something waits for
	})
	return n, explain(err, "node", id)
}

// FenceNode releases all that a silent node holds: somebody has made sure that
// its machine is off. It gives the node and the deployments to be reconciled.
func (s *Store) FenceNode(ctx context.Context, id warpket.ID, now time.Time) (n warpket.Node, deployments []warpket.ID, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if n, err = one(ctx, tx, scanNode, `select `+nodeColumns+` from nodes where id = $1 for update`, id); err != nil {
			return err
		}
		if err := n.Fence(now); err != nil {
			return err
		}
		slots, err := many(ctx, tx, scanSlot, `select `+slotColumns+` from slots where node_id = $1 for update`, id)
		if err != nil {
			return err
		}
		for _, slot := range slots {
			deployments = append(deployments, slot.DeploymentID)
		}
		if err := release(ctx, tx, `node_id = $1`, id); err != nil {
			return err
		}
		if len(slots) > 0 {
			if err := degradeFor(ctx, tx, slots); err != nil {
				return err
			}
		}
		// Lost too, so that an agent that does answer has to say what it holds.
		if _, err := tx.Exec(ctx, `update nodes set fenced = true, lost = true, updated_date = $2 where id = $1`, id, now); err != nil {
			return err
		}
		if err := notify(ctx, tx, NodeChanged, id); err != nil {
			return err
		}
		n, err = one(ctx, tx, scanNode, `select `+nodeColumns+` from nodes where id = $1`, id)
		return err
	})
	return n, distinct(deployments), explain(err, "node", id)
}

// Node gives a node.
func (s *Store) Node(ctx context.Context, id warpket.ID) (warpket.Node, error) {
	n, err := one(ctx, s.pool, scanNode, `select `+nodeColumns+` from nodes where id = $1`, id)
	return n, explain(err, "node", id)
}

// NodeFilter narrows a list of nodes; what is nil or empty lets all through.
type NodeFilter struct {
	Live     *bool
	Cordoned *bool
	Labels   map[string]string // that the node has
}

// Nodes lists the nodes.
func (s *Store) Nodes(ctx context.Context, filter NodeFilter, page Page) ([]warpket.Node, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	c := where(`id < $1`, before)
	if filter.Live != nil {
		c.and(`(lease_until > now()) = $%d`, *filter.Live)
	}
	if filter.Cordoned != nil {
		c.and(`cordoned = $%d`, *filter.Cordoned)
	}
	if len(filter.Labels) > 0 {
		c.and(`labels @> $%d`, filter.Labels)
	}
	items, err := planned(ctx, s.pool, scanNode, `select `+nodeColumns+` from nodes where `+c.where.String()+fmt.Sprintf(` order by id desc limit %d`, rows), c.args...)
	if err != nil {
		return nil, "", explain(err, "node", "")
	}
	items, next := cut(items, rows, func(n warpket.Node) warpket.ID { return n.ID })
	return items, next, nil
}

// Fleet gives every node with the devices that nobody holds, for placement.
func (s *Store) Fleet(ctx context.Context) ([]warpket.Node, error) {
	nodes, err := many(ctx, s.pool, scanNode, `select `+nodeColumns+` from nodes order by id`)
	return nodes, explain(err, "node", "")
}

// FleetPart gives some of the nodes.
func (s *Store) FleetPart(ctx context.Context, ids []warpket.ID) ([]warpket.Node, error) {
	nodes, err := many(ctx, s.pool, scanNode, `select `+nodeColumns+` from nodes where id = any ($1::uuid[]) order by id`, ids)
	return nodes, explain(err, "node", "")
}

// Pythons gives the Python minors that nodes have, whether live or not.
func (s *Store) Pythons(ctx context.Context) ([]string, error) {
	pythons, err := many(ctx, s.pool, pgx.RowTo[string], `select distinct p from nodes, jsonb_array_elements_text(inventory->'pythons') as p where jsonb_typeof(inventory->'pythons') = 'array' order by p`)
	return pythons, explain(err, "node", "")
}

const nodeColumns = `id, name, boot, inventory, cpu_leased, memory_leased, cordoned, lease_until, lease_until > now(), created_date,
	array(select d.id from devices d where d.node_id = nodes.id and d.slot_id is not null order by d.id), labels,
	draining, fenced, (select count(*) from slots s where s.node_id = nodes.id), loads, updated_date,
	(select coalesce(jsonb_object_agg(d.id, d.fault), '{}') from devices d where d.node_id = nodes.id and d.fault is not null)`

func scanNode(row pgx.CollectableRow) (n warpket.Node, err error) {
	var faults map[string]string
	err = row.Scan(&n.ID, &n.Name, &n.Boot, &n.Inventory, &n.CPULeased, &n.MemoryLeased, &n.Cordoned, &n.LeaseUntil, &n.Live, &n.CreatedDate, &n.DevicesLeased, &n.Labels,
		&n.Draining, &n.Fenced, &n.Slots, &n.Loads, &n.UpdatedDate, &faults)
	for i := range n.Inventory.Devices { // what the node says may have been cleared since
		n.Inventory.Devices[i].Fault = faults[n.Inventory.Devices[i].ID]
	}
	return n, err
}

func distinct(ids []warpket.ID) []warpket.ID {
	seen := map[warpket.ID]bool{"": true}
	var out []warpket.ID
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}
