package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// halfLife is how long it takes for half of what a project has used to be
// forgotten, in seconds.
const halfLife = 3600

// left is what is left of something that was used until a time.
func left(used, until string) string {
	return fmt.Sprintf(`%s * exp(-ln(2) / %d * greatest(0, extract(epoch from now() - %s)))`, used, halfLife, until)
}

// decayed is what is left now of a charge since a time: at most the charge
// itself, which it is after some hours.
func decayed(charge, since string) string {
	return fmt.Sprintf(`%s * (1 - exp(-ln(2) / %d * greatest(0, extract(epoch from now() - %s))))`, charge, halfLife, since)
}

// maxWaits is how many that wait are looked at.
const maxWaits = 500

// Wait records that something waits for room, and why. Since when, the first
// record says.
func (s *Store) Wait(ctx context.Context, w warpket.Wait) error {
	_, err := s.pool.Exec(ctx, `insert into waits (subject_id, server_id, kind, project_id, need, reason, decision) values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (subject_id, server_id) do update set need = excluded.need, reason = excluded.reason, decision = excluded.decision`,
		w.SubjectID, w.ServerID, w.Kind, w.ProjectID, w.Need, w.Reason, w.Decision)
	return explain(err, "wait", w.SubjectID)
}

// EndWait records that something waits no longer in a server. With served it has
// got its room, in whichever server; else there is room for those after it.
func (s *Store) EndWait(ctx context.Context, subject, server warpket.ID, served bool) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from waits where subject_id = $1 and ($3 or server_id = $2)`, subject, server, served)
		if err != nil || tag.RowsAffected() == 0 || served {
			return err
		}
		return notify(ctx, tx, CapacityFreed, NoNode)
	})
	return explain(err, "wait", subject)
}

// NoNode is in the news of capacity when no node has more than before.
const NoNode = "-"

// Contended reports whether anything else waits for room.
func (s *Store) Contended(ctx context.Context, subject warpket.ID) (contended bool, err error) {
	err = s.pool.QueryRow(ctx, `select exists (select from waits w join servers v on v.id = w.server_id where v.lease_until > now() and w.subject_id <> $1)`, subject).Scan(&contended)
	return contended, explain(err, "wait", subject)
}

// Waits gives what waits for room in servers that are listed, those that have
// waited longest first and each once.
func (s *Store) Waits(ctx context.Context) ([]warpket.Wait, error) {
	waits, err := many(ctx, s.pool, scanWait, `select `+waitColumns+` from `+openWaits+` order by w.since, w.subject_id limit $1`, maxWaits)
	return waits, explain(err, "wait", "")
}

// Awaited reports whether an execution or a deployment lacks a slot; with
// projects, one of theirs.
func (s *Store) Awaited(ctx context.Context, projects []warpket.ID) (awaited bool, err error) {
	err = s.pool.QueryRow(ctx, `select exists (select from executions where status = 'queued' and ($1::uuid[] is null or project_id = any ($1)))
		or exists (select from deployments where status in ('placing', 'preparing', 'degraded') and ($1::uuid[] is null or project_id = any ($1)))`, projects).Scan(&awaited)
	return awaited, explain(err, "wait", "")
}

// TellOfRoom tells all who lack a slot that there may be room.
func (s *Store) TellOfRoom(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return notify(ctx, tx, CapacityFreed, NoNode) })
	return explain(err, "wait", "")
}

// SweepWaits drops what servers that are gone have left.
func (s *Store) SweepWaits(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `delete from waits where since < now() - interval '1 minute' and server_id not in (select id from servers)`)
	return explain(err, "wait", "")
}

var openWaits = `(select distinct on (subject_id) w.* from waits w join servers v on v.id = w.server_id where v.lease_until > now() order by subject_id, since) w
		join projects p on p.id = w.project_id left join project_use u on u.project_id = w.project_id
		left join (select project_id, sum(charge + ` + decayed(`charge`, `created_date`) + `) as charge from slots where project_id in (select project_id from waits) group by project_id) h on h.project_id = w.project_id`

var waitColumns = `w.subject_id, w.server_id, w.kind, w.project_id, w.need, w.reason, w.decision, p.weight, p.max_priority, ` + use + `, w.since, extract(epoch from now() - w.since)::float8`

// use is what a project makes of the fleet now, and what is left of what it has
// made lately.
var use = `coalesce(` + left(`u.used`, `u.updated_date`) + `, 0) + coalesce(h.charge, 0)`

func scanWait(row pgx.CollectableRow) (w warpket.Wait, err error) {
	var waited float64
	err = row.Scan(&w.SubjectID, &w.ServerID, &w.Kind, &w.ProjectID, &w.Need, &w.Reason, &w.Decision, &w.Weight, &w.MaxPriority, &w.Use, &w.Since, &waited)
	w.Waited = time.Duration(waited * float64(time.Second))
	return w, err
}

// SlotHolders gives the slots that something with a priority might take, the
// lowest first, with the ranks of their projects. Those that yield already are
// none of them.
func (s *Store) SlotHolders(ctx context.Context, project warpket.ID, priority, rank int) ([]Holder, error) {
	holders, err := many(ctx, s.pool, func(row pgx.CollectableRow) (h Holder, err error) {
		err = row.Scan(&h.Slot.ID, &h.Slot.NodeID, &h.Slot.DeploymentID, &h.Slot.ProjectID, &h.Slot.Generation, &h.Slot.Resources, &h.Slot.Devices, &h.MaxPriority)
		return h, err
	}, `select s.id, s.node_id, coalesce(s.deployment_id::text, ''), s.project_id, s.generation, s.resources, array(select v.id from devices v where v.slot_id = s.id order by v.id), p.max_priority
		from slots s join projects p on p.id = s.project_id
		where s.status <> 'lost' and s.yields_to is null
			and (coalesce((s.resources->>'priority')::int, 0) < greatest($2::int, $3::int) or s.project_id = any (array(select id from projects where max_priority < $3::int)))
			and case when s.project_id = $1 then coalesce((s.resources->>'priority')::int, 0) < $2::int else least(coalesce((s.resources->>'priority')::int, 0), p.max_priority) < $3::int end
		order by coalesce((s.resources->>'priority')::int, 0), s.id desc limit 10000`, project, priority, rank)
	return holders, explain(err, "slot", "")
}

// Holder is a slot with what its project may have.
type Holder struct {
	Slot        warpket.Slot // without what it runs
	MaxPriority int
}

// Yield has slots end for something more urgent, unless one of them yields
// already or is gone: then the error is Conflict. Whoever asked ends them.
func (s *Store) Yield(ctx context.Context, slots []warpket.ID, to warpket.ID) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update slots set yields_to = $2 where id = any ($1::uuid[]) and yields_to is null`, slots, to)
		if err == nil && int(tag.RowsAffected()) < len(slots) {
			err = warpket.Errorf(warpket.Conflict, "a slot that was to yield to %s does so already, or is gone", to)
		}
		return err
	})
	return explain(err, "slot", to)
}

// Yielding gives the slots that end for something, or for anything if that is
// empty. Those of lost nodes are none: nobody knows when they end.
func (s *Store) Yielding(ctx context.Context, to warpket.ID) ([]warpket.Slot, error) {
	slots, err := many(ctx, s.pool, scanSlot, `select `+slotColumns+` from slots where yields_to is not null and status <> 'lost' and ($1::uuid is null or yields_to = $1) order by id`, orNull(to))
	return slots, explain(err, "slot", to)
}

// Neighbours gives the nodes that have slots of a runtime, and on how many each
// node has of a deployment.
func (s *Store) Neighbours(ctx context.Context, runtime, deployment warpket.ID) (warm map[warpket.ID]bool, peers map[warpket.ID]int, err error) {
	type neighbour struct {
		node  warpket.ID
		ready bool
		peers int
	}
	list, err := many(ctx, s.pool, func(row pgx.CollectableRow) (n neighbour, err error) {
		err = row.Scan(&n.node, &n.ready, &n.peers)
		return n, err
	}, `select node_id, bool_or(status = 'ready'), count(*) filter (where deployment_id = $2) from slots where runtime_id = $1 group by node_id`, runtime, orNull(deployment))
	warm, peers = map[warpket.ID]bool{}, map[warpket.ID]int{}
	for _, n := range list {
		warm[n.node] = n.ready
		if n.peers > 0 {
			peers[n.node] = n.peers
		}
	}
	return warm, peers, explain(err, "slot", "")
}

// WaitOf gives what is recorded of something that waits for room, or nil.
func (s *Store) WaitOf(ctx context.Context, subject warpket.ID) (*warpket.Wait, error) {
	found, err := many(ctx, s.pool, scanWait, `select `+waitColumns+` from `+openWaits+` where w.subject_id = $1`, subject)
	if err != nil || len(found) == 0 {
		return nil, explain(err, "wait", subject)
	}
	return &found[0], nil
}

// Turns tells of a queued execution how many of its snapshot are before it, how
// many slots serve the snapshot, and how long the function's code has run
// lately: zero where fewer than five runs tell.
func (s *Store) Turns(ctx context.Context, e warpket.Execution) (before, slots int, ran time.Duration, err error) {
	err = s.pool.QueryRow(ctx, `select
		(select count(*) from executions where status in ('queued', 'running') and status = 'queued' and snapshot_id = $2
			and (coalesce((resources->>'priority')::int, 0) > $4 or coalesce((resources->>'priority')::int, 0) = $4 and id < $1)),
		(select count(*) from slots where snapshot_id = $2 and status = 'ready'),
		(select case when count(*) < 5 then 0 else avg((timings->>'Ran')::bigint)::bigint end from
			(select timings from executions where function_id = $3 and id < $1 order by id desc limit 50) latest where timings is not null)`,
		e.ID, e.SnapshotID, e.FunctionID, e.Resources.Priority).Scan(&before, &slots, &ran)
	return before, slots, ran, explain(err, "execution", e.ID)
}
