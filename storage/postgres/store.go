// Package postgres keeps warpket's records. Postgres is the truth: each method
// is one transaction, named for what the product does. A method that serves a
// tenant takes its project and puts it in the where clause.
package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/migrations"
)

// Store is a pool of connections to the database.
type Store struct {
	pool *pgxpool.Pool
}

// connections are how many a server holds at most, unless the URL asks for
// more: enough for commits to share their way to the disk.
const connections = 16

// Open connects to the database and brings its schema to this release's.
func Open(ctx context.Context, url string) (*Store, error) { return open(ctx, url, nil) }

// open is Open with somebody who sees all that is run, or nil.
func open(ctx context.Context, url string, tracer pgx.QueryTracer) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "the Postgres URL cannot be read: want postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	config.MaxConns = max(config.MaxConns, connections)
	// Everything is looked up by keys: planning the partitions of executions anew
	// for each call costs more than it ever gains.
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	if err := migrations.Up(ctx, db); err != nil {
		pool.Close()
		return nil, err
	}
	s := &Store{pool: pool}
	if err := s.ExtendPartitions(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// Close gives all connections back.
func (s *Store) Close() { s.pool.Close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return warpket.Because(warpket.Unavailable, err, "the database does not answer; try again in a moment")
	}
	return nil
}

// explain gives database errors their kinds. what and id name the thing that
// the statement was about.
func explain(err error, what string, id any) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*warpket.Error](err); ok {
		return err
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return warpket.Errorf(warpket.NotFound, "there is no %s %q", what, fmt.Sprint(id))
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && !connect {
		switch {
		case pg.Code == "23505":
			return warpket.Because(warpket.Conflict, err, "the %s %q exists already", what, fmt.Sprint(id))
		case pg.Code == "22021":
			return warpket.Because(warpket.Invalid, err, "a text has a NUL character, or is not UTF-8: no %s can have that", what)
		case pg.Code == "23503":
			return warpket.Because(warpket.Conflict, err, "the %s %q is in use, or what it refers to is gone", what, fmt.Sprint(id))
		case strings.HasPrefix(pg.Code, "40"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57"):
			return warpket.Because(warpket.Unavailable, err, "the database is busy; try again in a moment")
		}
		return fmt.Errorf("%s %v: %w", what, id, err)
	}
	_, network := errors.AsType[net.Error](err)
	if network || connect || pgconn.SafeToRetry(err) {
		return warpket.Because(warpket.Unavailable, err, "the database does not answer; try again in a moment")
	}
	return fmt.Errorf("%s %v: %w", what, id, err)
}

// IsConstraint reports whether err came from breaking the named constraint.
func isConstraint(err error, name string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.ConstraintName == name
}

// one runs a query that gives one row.
func one[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	rows, _ := q.Query(ctx, sql, args...) // the error comes back from Collect
	return pgx.CollectExactlyOneRow(rows, scan)
}

// many runs a query that gives rows.
func many[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, _ := q.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, scan)
}

// planned runs a query that gives rows with a plan for these very arguments:
// what serves a list depends on what it is narrowed to. The index of a project
// does even where the project has most of a table.
func planned[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	return plannedBy(ctx, pool, seeks, scan, sql, args...)
}

// What the planner is told for a list: that tables are not looked through, for a
// walk also that an index has the order, whatever it makes of how many rows fit.
const (
	seeks = `select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)`
	walks = seeks + `, set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)`
)

func plannedBy[T any](ctx context.Context, pool *pgxpool.Pool, settings string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	var items []T
	batch := &pgx.Batch{} // one round trip, one transaction
	batch.Queue(settings)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		items, err = pgx.CollectRows(rows, scan)
		return err
	})
	err := pool.SendBatch(ctx, batch).Close()
	return items, err
}

// pgconnTag is what a statement without rows answers.
type pgconnTag = pgconn.CommandTag

// alreadyThere reports whether another server made the same table at the same
// moment.
func alreadyThere(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "42P07" || pg.Code == "23505")
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Page asks for a part of a list, newest first.
type Page struct {
	Cursor string // from the page before; empty for the first
	Limit  int
}

// MaxPage is the most items that one page holds.
const MaxPage = 200

// bounds gives the ID below which the page starts and how many rows to read:
// one more than asked, which tells whether there is a next page.
func (p Page) bounds() (before warpket.ID, rows int, err error) {
	before = "ffffffff-ffff-ffff-ffff-ffffffffffff"
	if p.Cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(p.Cursor)
		if err == nil {
			before, err = warpket.ParseID("page", string(b))
		}
		if err != nil {
			return "", 0, warpket.Errorf(warpket.Invalid, "this cursor is not one that a list answered: leave it out to start from the newest").At("cursor")
		}
	}
	return before, min(max(p.Limit, 1), MaxPage) + 1, nil
}

// cut drops the row that was read too many and makes the cursor from the last
// one that stays.
func cut[T any](items []T, rows int, id func(T) warpket.ID) ([]T, string) {
	if len(items) < rows {
		return items, ""
	}
	items = items[:rows-1]
	return items, cursor(id(items[len(items)-1]))
}

// MaxLooked is how many rows a list looks at for one page, where no index knows
// which of them fit.
const MaxLooked = 2_000

// looking is a list of a table that grows without bounds. An index serves the
// walk in the order of IDs; what fits is looked for on the way.
type looking struct {
	table, columns, order string
	walk                  string // a where clause
	walkArgs              []any
	parts                 []string // conditions, no two of which hold at once: the walk is each of its parts', by the order; none for all of it
	fits                  string   // what is added to the walk: " and ..."
	args                  []any    // of both
	unsorted              bool     // no index has the order
}

// walked is what the walk goes through. Parts are merged as they are read, each
// along the index.
func (l looking) walked() string {
	if len(l.parts) < 2 {
		return l.table + ` where ` + strings.Join(append(slices.Clone(l.parts), l.walk), ` and `)
	}
	parts := make([]string, len(l.parts))
	for i, part := range l.parts {
		parts[i] = fmt.Sprintf(`(select * from %s where %s and %s order by %s limit %d)`, l.table, part, l.walk, l.order, MaxLooked)
	}
	return `(` + strings.Join(parts, ` union all `) + `) ` + l.table
}

// look reads a page. With a filter that few fit, it may hold fewer than its
// limit, even none, while there are more: the cursor tells.
func look[T any](ctx context.Context, pool *pgxpool.Pool, l looking, scan pgx.RowToFunc[T], rows int, id func(T) warpket.ID) ([]T, string, error) {
	walked := l.walked()
	from := walked
	if l.fits != "" {
		from = fmt.Sprintf(`(select * from %s order by %s limit %d) %s where true%s`, walked, l.order, MaxLooked, l.table, l.fits)
	}
	settings := seeks
	if !l.unsorted {
		settings = walks
	}
	items, err := plannedBy(ctx, pool, settings, scan, fmt.Sprintf(`select %s from %s order by %s limit $%d`, l.columns, from, l.order, len(l.args)+1), append(l.args, rows)...)
	if err != nil {
		return nil, "", err
	}
	if l.fits != "" && len(items) < rows { // there may be more beyond those it has looked at
		last, err := plannedBy(ctx, pool, settings, pgx.RowTo[warpket.ID], fmt.Sprintf(`select id from %s order by %s offset %d limit 1`, walked, l.order, MaxLooked-1), l.walkArgs...)
		if err != nil || len(last) == 0 {
			return items, "", err
		}
		return items, cursor(last[0]), nil
	}
	items, next := cut(items, rows, id)
	return items, next, nil
}

// cursor is that of the page after an item.
func cursor(last warpket.ID) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

// notify tells every server that something rare has changed. It takes effect
// when the transaction commits.
func notify(ctx context.Context, tx pgx.Tx, topic Topic, id warpket.ID) error {
	_, err := tx.Exec(ctx, `select pg_notify('warpket', $1)`, string(topic)+":"+string(id))
	return err
}

// Topic says what sort of thing a Change is about.
type Topic string

// The topics of changes.
const (
	DeploymentChanged Topic = "deployment"
	RuntimeChanged    Topic = "runtime"
	ExecutionWoken    Topic = "execution" // one that waits in another server got its slot, or is final
	CapacityFreed     Topic = "capacity"
	NodeChanged       Topic = "node"
	FunctionRevised   Topic = "function" // its slots are to be replaced
	ProjectDeleted    Topic = "project"  // it is to be taken apart
)

// Listen calls changed for each change that any server commits, until ctx ends
// or the connection fails. ready is called once nothing can be missed any more.
func (s *Store) Listen(ctx context.Context, ready func(), changed func(Topic, warpket.ID)) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return explain(err, "listener", "")
	}
	raw := conn.Hijack()
	defer func() { _ = raw.Close(context.WithoutCancel(ctx)) }()
	if _, err := raw.Exec(ctx, `listen warpket`); err != nil {
		return explain(err, "listener", "")
	}
	ready()
	for {
		n, err := raw.WaitForNotification(ctx)
		if err != nil {
			return explain(err, "listener", "")
		}
		topic, id, _ := strings.Cut(n.Payload, ":")
		changed(Topic(topic), warpket.ID(id))
	}
}
