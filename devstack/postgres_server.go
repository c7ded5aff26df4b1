package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// initdbPart is the child that makes a data directory. It is no part that stays.
const initdbPart = "initdb"

// cleanStop is how long Postgres may take to stop before it is told to drop
// everything and recover at its next start.
const cleanStop = 10 * time.Second

// initialisePostgres makes a data directory.
func initialisePostgres(ctx context.Context, _ *part, s postgresSettings) error {
	runtime.LockOSThread() // for the death signal, as below
	initdb := exec.CommandContext(ctx, filepath.Join(s.Binaries, "bin", "initdb"),
		"--pgdata", s.Data,
		"--username", s.User,
		"--pwfile", "/dev/stdin", // so that the password is never on disk in clear
		"--auth", "scram-sha-256",
		"--encoding", "UTF8",
		// The same on every machine, whatever locales it has.
		"--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C")
	initdb.Env = postgresEnv()
	initdb.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	initdb.Cancel = func() error { return initdb.Process.Signal(syscall.SIGTERM) }
	initdb.Stdin = strings.NewReader(s.Password + "\n")
	initdb.Stdout, initdb.Stderr = os.Stdout, os.Stderr
	if err := initdb.Run(); err != nil {
		return fmt.Errorf("making the Postgres data directory: initdb: %w", err)
	}
	return nil
}

// guardPostgres runs the server as its child and stops it in an orderly way,
// whatever the way in which it is asked to, or is itself ended.
func guardPostgres(ctx context.Context, p *part, s postgresSettings) error {
	// The death signal below is sent when this thread ends, so it must last.
	runtime.LockOSThread()
	server := exec.Command(filepath.Join(s.Binaries, "bin", "postgres"), s.arguments()...) //nolint:noctx // it is stopped with care, see stopPostgres
	server.Env = postgresEnv()
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT} // should we be killed: stop cleanly
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	up := make(chan error, 1)
	go func() { up <- s.becomeReady(ctx) }()

	for {
		select {
		case err := <-up:
			if err != nil && ctx.Err() == nil {
				return errors.Join(err, stopPostgres(server.Process, ended))
			}
			if err == nil {
				p.report(ready, "")
			}
		case err := <-ended:
			return fmt.Errorf("the server ended (%w)", err)
		case <-ctx.Done():
			return stopPostgres(server.Process, ended)
		}
	}
}

// arguments are those of the server. Settings are given here, not in a file of
// the data directory, so that they are the same for old and new directories.
func (s postgresSettings) arguments() []string {
	args := []string{"-D", s.Data}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(s.Port),
		"unix_socket_directories=", // none: their paths are limited to 107 bytes
		"max_connections=200",
		"shared_buffers=128MB",
		"timezone=UTC",
		"log_timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// stopPostgres stops the server: open transactions are rolled back and all is
// written out, unless that takes too long.
func stopPostgres(server *os.Process, ended <-chan error) error {
	for _, step := range []struct {
		signal syscall.Signal
		within time.Duration
	}{{syscall.SIGINT, cleanStop}, {syscall.SIGQUIT, 2 * time.Second}} {
		_ = server.Signal(step.signal)
		select {
		case <-ended: //nolint:errcheck // how it ended makes no difference
			return nil
		case <-time.After(step.within):
		}
	}
	return errors.New("the server does not stop")
}

// becomeReady waits until the server takes connections, and creates the
// product's database.
func (s postgresSettings) becomeReady(ctx context.Context) error {
	address := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(s.User, s.Password),
		Host:     local(s.Port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	conn, err := connectWhenUp(ctx, address.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return createDatabase(ctx, conn, productDatabase)
}

// connectWhenUp connects to a Postgres that may still be starting, until ctx
// ends. A server that answers with a lasting refusal is not asked again.
func connectWhenUp(ctx context.Context, address string) (*pgx.Conn, error) {
	for {
		conn, err := pgx.Connect(ctx, address)
		if err == nil {
			return conn, nil
		}
		var answer *pgconn.PgError
		if errors.As(err, &answer) && !passing(answer.Code) {
			return nil, fmt.Errorf("the Postgres server refuses us: %s", answer.Message)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("no connection to the Postgres server: %w", err)
		}
	}
}

// passing says whether an error of Postgres goes away by waiting: it starts,
// stops (class 57), or is out of connections (class 53).
func passing(code string) bool {
	return strings.HasPrefix(code, "57") || strings.HasPrefix(code, "53")
}

// createDatabase creates a database if it is not there.
func createDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, name).Scan(&there); err != nil {
		return fmt.Errorf("looking for database %s: %w", name, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, `create database `+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	return nil
}
