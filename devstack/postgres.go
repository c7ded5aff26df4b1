package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	postgresMajor = "18"
	dataDir       = "pg" + postgresMajor
	postgresPort  = "postgres" // in ports.json

	// productDatabase is the database that the product uses.
	productDatabase = "warpket"
)

// postgresSettings are what the child that runs Postgres needs to know.
type postgresSettings struct {
	Binaries string
	Data     string
	User     string
	Password string
	Port     int
}

// preparePostgres makes all that a server needs to start: its binaries, a data
// directory, and nobody else on it.
func (d *devstack) preparePostgres(ctx context.Context) (any, user, error) {
	data := d.cfg.path(dataDir)
	if err := refuseOtherMajor(d.cfg.data); err != nil {
		return nil, user{}, err
	}
	binaries, err := d.postgresBinaries(ctx)
	if err != nil {
		return nil, user{}, err
	}
	if err := stopServersOn(data); err != nil {
		return nil, user{}, err
	}
	as, err := postgresUser(data, binaries)
	if err != nil {
		return nil, user{}, err
	}
	settings := postgresSettings{
		Binaries: binaries,
		Data:     data,
		User:     d.creds.Postgres.User,
		Password: d.creds.Postgres.Password,
		Port:     d.ports.of(postgresPort),
	}
	if !exists(filepath.Join(data, "PG_VERSION")) {
		if err := d.initialise(ctx, settings, as); err != nil {
			return nil, user{}, err
		}
	}
	return settings, as, as.own(data)
}

// initialise makes the data directory, beside its place and then renamed: one
// that is there is whole.
func (d *devstack) initialise(ctx context.Context, s postgresSettings, as user) error {
	d.out.report(event{Part: postgresPart, Phase: initialising, Detail: s.Data})
	final := s.Data
	s.Data = final + ".new"
	if err := os.RemoveAll(s.Data); err != nil {
		return err
	}
	if err := os.Mkdir(s.Data, 0o700); err != nil {
		return err
	}
	if err := as.own(s.Data); err != nil {
		return err
	}
	c, err := d.spawn(initdbPart, s, as.named())
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = c.hold.Close() })()
	reason := ""
	for e := range c.events {
		reason = e.Detail
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.err != nil {
		return ending(reason, c.err)
	}
	if err := os.Rename(s.Data, final); err != nil {
		return fmt.Errorf("%s is in the way of a new Postgres data directory: %w", final, err)
	}
	return nil
}

// refuseOtherMajor refuses a directory whose data is of another major version
// of Postgres: it must be carried over by its owner, never converted unasked.
func refuseOtherMajor(dir string) error {
	found, err := filepath.Glob(filepath.Join(quoteGlob(dir), "pg*", "PG_VERSION"))
	if err != nil {
		return err
	}
	other := ""
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, major := filepath.Base(filepath.Dir(file)), strings.TrimSpace(string(text))
		switch {
		case major != postgresMajor && name != dataDir+".new":
			other = major
		case name == dataDir:
			return nil // an older one beside it has been carried over
		}
	}
	if other == "" {
		return nil
	}
	return fmt.Errorf("the data in %s was written by Postgres %s, and this devstack runs Postgres %s, which cannot read it. "+
		"Carry it over: run `warpket backup` with the warpket that wrote it, then `warpket restore` with this one into an empty directory",
		dir, other, postgresMajor)
}

func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// postgresEnv is the environment of Postgres' programs: settings meant for
// other servers of the same user must not leak in.
func postgresEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") {
			env = append(env, kv)
		}
	}
	return env
}
