package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Authority gives the certificate authority of the node channel, which make
// makes when this cluster has none yet.
func (s *Store) Authority(ctx context.Context, create func() (certificate, key []byte, err error)) (certificate, key []byte, err error) {
	read := func() error {
		return s.pool.QueryRow(ctx, `select certificate, private_key from authority`).Scan(&certificate, &key)
	}
	err = read()
	if err == nil || warpket.KindOf(explain(err, "authority", "")) != warpket.NotFound {
		return certificate, key, explain(err, "authority", "")
	}
	certificate, key, err = create()
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.pool.Exec(ctx, `insert into authority (certificate, private_key) values ($1, $2) on conflict do nothing`, certificate, key); err != nil {
		return nil, nil, explain(err, "authority", "")
	}
	return certificate, key, explain(read(), "authority", "") // another server may have been first
}

// Server is a running server.
type Server struct {
	ID      warpket.ID
	Channel string // where nodes reach it, host:port; several may share one address
	Peer    string // where other servers reach it and no other, host:port
}

// RenewServer lists a server, or keeps it listed, and drops those that have
// been silent for a minute. It gives all listed ones.
func (s *Store) RenewServer(ctx context.Context, server Server) ([]Server, error) {
	var servers []Server
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into servers (id, channel, peer, lease_until) values ($1, $2, $3, now() + $4) on conflict (id) do update set channel = excluded.channel, peer = excluded.peer, lease_until = excluded.lease_until`,
			server.ID, server.Channel, server.Peer, warpket.Lease)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from servers where lease_until < now() - interval '1 minute'`); err != nil {
			return err
		}
		servers, err = many(ctx, tx, pgx.RowToStructByPos[Server], `select id, channel, peer from servers where lease_until > now() order by id`)
		return err
	})
	return servers, explain(err, "server", server.ID)
}

// Levels counts slots, nodes and open executions of the cluster, by status.
func (s *Store) Levels(ctx context.Context) (slots, nodes, executions map[string]int, err error) {
	count := func(sql string) map[string]int {
		out := map[string]int{}
		rows, _ := s.pool.Query(ctx, sql) // the error comes back from ForEachRow
		var status string
		var n int
		_, failed := pgx.ForEachRow(rows, []any{&status, &n}, func() error { out[status] = n; return nil })
		err = errors.Join(err, failed)
		return out
	}
	slots = count(`select status, count(*) from slots group by 1`)
	nodes = count(`select case when lease_until <= now() then 'lost' when cordoned then 'cordoned' else 'up' end, count(*) from nodes group by 1`)
	executions = count(`select status, count(*) from executions where status in ('queued', 'running') group by 1`)
	return slots, nodes, executions, explain(err, "cluster", "")
}

// DropServer takes a server that ends off the list.
func (s *Store) DropServer(ctx context.Context, id warpket.ID) error {
	_, err := s.pool.Exec(ctx, `delete from servers where id = $1`, id)
	return explain(err, "server", id)
}

// Promise is a workflow that a transaction has promised to start.
type Promise struct {
	Kind      string // "deploy", "execute", "build", "schedule" or "callback"
	SubjectID warpket.ID
}

// Overdue gives up to a hundred promises that are older than five seconds: the
// server that made them has not kept them.
func (s *Store) Overdue(ctx context.Context) ([]Promise, error) {
	p, err := many(ctx, s.pool, pgx.RowToStructByPos[Promise], `select kind, subject_id from outbox where created_date < now() - interval '5 seconds' order by created_date limit 100`)
	return p, explain(err, "outbox", "")
}

// Kept removes a promise whose workflow has been started.
func (s *Store) Kept(ctx context.Context, p Promise) error {
	_, err := s.pool.Exec(ctx, `delete from outbox where kind = $1 and subject_id = $2`, p.Kind, p.SubjectID)
	return explain(err, "outbox", p.SubjectID)
}

// PutOff has a promise whose workflow has been started come up again in five
// minutes, for Temporal may be wiped before what was promised is done.
func (s *Store) PutOff(ctx context.Context, p Promise) error {
	_, err := s.pool.Exec(ctx, `update outbox set created_date = now() + interval '5 minutes' where kind = $1 and subject_id = $2`, p.Kind, p.SubjectID)
	return explain(err, "outbox", p.SubjectID)
}
