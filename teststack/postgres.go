package teststack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/warpket/warpket/migrations"
)

const (
	template = "warpket_test_template"
	// templateLock is the number of the advisory lock under which one of
	// several test processes makes the template.
	templateLock = 7_461_125
)

// Postgres is the URL of a new database with the schema of this release, for
// this test alone. It is dropped at the end of the test.
func Postgres(t testing.TB) string {
	t.Helper()
	admin := addresses(t).Postgres
	name := "test_" + random()
	err := withConn(t.Context(), admin, func(ctx context.Context, conn *pgx.Conn) error {
		if err := makeTemplate(ctx, conn, admin); err != nil {
			return fmt.Errorf("making the template of test databases: %w", err)
		}
		_, err := conn.Exec(ctx, `create database `+name+` template `+template)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		err := withConn(ctx, admin, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `drop database `+name+` with (force)`)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return at(admin, name)
}

// makeTemplate makes the database that test databases are copies of, unless a
// test before has. Migrating each of them would take many times longer.
func makeTemplate(ctx context.Context, conn *pgx.Conn, admin string) error {
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, templateLock); err != nil { // ends with the connection
		return err
	}
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, template).Scan(&there); err != nil {
		return err
	}
	if there {
		_, err := conn.Exec(ctx, `select pg_advisory_unlock($1)`, templateLock)
		return err
	}
	const unfinished = template + "_new"
	for _, sql := range []string{`drop database if exists ` + unfinished, `create database ` + unfinished} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := migrate(ctx, at(admin, unfinished)); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `alter database `+unfinished+` rename to `+template); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `select pg_advisory_unlock($1)`, templateLock)
	return err
}

func migrate(ctx context.Context, address string) error {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	return migrations.Up(ctx, db)
}

func withConn(ctx context.Context, address string, use func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return use(ctx, conn)
}

// at is the URL of another database of the same server.
func at(address, database string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // refused where it is used
	}
	u.Path = "/" + database
	return u.String()
}

// random is a part of a name that no other test uses.
func random() string { return strings.ToLower(rand.Text()) }
