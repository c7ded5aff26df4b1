package postgres

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// DeviceFilter narrows a list of devices; what is nil or empty lets all through.
type DeviceFilter struct {
	Kind   warpket.DeviceKind
	NodeID warpket.ID
	Free   *bool // whether a slot may be placed on it now
	Name   warpket.Condition
	Memory warpket.Condition // of bytes
}

// Devices lists the devices of all nodes, those of the newest node first, with
// who holds them.
func (s *Store) Devices(ctx context.Context, filter DeviceFilter, page Page) ([]warpket.NodeDevice, string, error) {
	c := where(`true`)
	if page.Cursor != "" {
		node, id, err := parseDeviceCursor(page.Cursor)
		if err != nil {
			return nil, "", err
		}
		c = where(`(d.node_id < $1 or d.node_id = $1 and d.id > $2)`, node, id)
	}
	if filter.Kind != "" {
		c.and(`d.kind = $%d`, filter.Kind)
	}
	if filter.NodeID != "" {
		c.and(`d.node_id = $%d`, filter.NodeID)
	}
	if filter.Free != nil {
		c.and(`(`+freeDevice+`) = $%d`, *filter.Free)
	}
	if err := c.compare(`d.device->>'name'`, filter.Name, nil); err != nil {
		return nil, "", err
	}
	if err := c.compare(`(d.device->>'memory')::bigint`, filter.Memory, bytesOf); err != nil {
		return nil, "", err
	}
	rows := min(max(page.Limit, 1), MaxPage) + 1
	items, err := planned(ctx, s.pool, scanDevice, `select d.node_id, n.name, d.device, coalesce(d.fault, ''), `+freeDevice+`, n.loads->d.id,
		coalesce(d.slot_id::text, ''), coalesce(s.deployment_id::text, ''), coalesce(s.project_id::text, ''), coalesce(s.function_id::text, ''), coalesce(f.name, '')
		from devices d join nodes n on n.id = d.node_id left join slots s on s.id = d.slot_id left join functions f on f.id = s.function_id
		where `+c.where.String()+fmt.Sprintf(` order by d.node_id desc, d.id limit %d`, rows), c.args...)
	if err != nil || len(items) < rows {
		return items, "", explain(err, "device", "")
	}
	items = items[:rows-1]
	last := items[len(items)-1]
	return items, base64.RawURLEncoding.EncodeToString([]byte(string(last.NodeID) + "/" + last.ID)), nil
}

// freeDevice is whether a slot may be placed on a device now.
const freeDevice = `d.slot_id is null and d.fault is null and not d.device @> '{"migEnabled": true}' and not n.cordoned and n.lease_until > now()`

func parseDeviceCursor(cursor string) (node warpket.ID, id string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	text, id, ok := strings.Cut(string(b), "/")
	if err == nil && ok && !strings.ContainsRune(id, 0) {
		if node, err = warpket.ParseID("page", text); err == nil {
			return node, id, nil
		}
	}
	return "", "", warpket.Errorf(warpket.Invalid, "this cursor is not one that a list answered: leave it out to start from the newest").At("query.cursor")
}

func scanDevice(row pgx.CollectableRow) (d warpket.NodeDevice, err error) {
	var holder warpket.Slot
	err = row.Scan(&d.NodeID, &d.NodeName, &d.Device, &d.Fault, &d.Free, &d.Load, &holder.ID, &holder.DeploymentID, &holder.ProjectID, &holder.FunctionID, &d.Function)
	if holder.ID != "" {
		d.Holder = &holder
	}
	return d, err
}

// ClearFault lets a device be used again that had a fault: an operator has seen
// to it. The same fault, told again by its node, does not count any more.
func (s *Store) ClearFault(ctx context.Context, node warpket.ID, device string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update devices set cleared = coalesce(fault, cleared), fault = null where node_id = $1 and id = $2`, node, device)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return pgx.ErrNoRows
		}
		if err := notify(ctx, tx, NodeChanged, node); err != nil {
			return err
		}
		return notify(ctx, tx, CapacityFreed, "")
	})
	return explain(err, "device", device)
}

// bytesOf reads a number of bytes in a condition.
func bytesOf(text string) (any, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "memory is compared with a number of bytes, such as 42949672960, not %q", text).At("query.memory")
	}
	return n, nil
}
