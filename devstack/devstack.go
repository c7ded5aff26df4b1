package main

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"time"
)

// devstack is one data directory and the parts that run on it.
type devstack struct {
	cfg   options
	creds accounts
	ports *ports
	lock  *os.File
	out   *reporter
	parts []*keeper // in the order in which they start
}

// runDevstack runs all parts until ctx ends, and stops them. It returns an
// error, in words for a person, if they do not all start.
func runDevstack(ctx context.Context, cfg options, events io.Writer) error {
	d, err := openDevstack(cfg, events)
	if err != nil {
		return err
	}
	defer d.lock.Close()

	failures := make(chan error, len(d.parts))
	for _, k := range d.parts {
		// Not from ctx: they stop one after the other, not all at once.
		var own context.Context
		own, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer close(k.ended)
			if err := k.run(own); err != nil {
				failures <- err
			}
		}()
	}
	defer func() {
		for _, k := range slices.Backward(d.parts) {
			k.cancel()
			<-k.ended
		}
	}()

	for _, k := range d.parts {
		select {
		case <-k.ready:
		case err := <-failures:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	d.out.ready(d.addresses())
	<-ctx.Done()
	return nil
}

// openDevstack takes the lock of the data directory and reads what is kept there.
func openDevstack(cfg options, events io.Writer) (*devstack, error) {
	d := &devstack{cfg: cfg}
	var err error
	if d.lock, err = lockDir(cfg.path("lock")); err != nil {
		return nil, err
	}
	if _, err := makeDir(cfg.path("log"), 0o700); err != nil {
		return nil, err
	}
	log, err := openLog(cfg.path("log", "devstack.log"))
	if err != nil {
		return nil, err
	}
	d.out = newReporter(events, slog.New(slog.NewTextHandler(log, nil)))
	if d.creds, err = loadCredentials(cfg); err != nil {
		return nil, err
	}
	if d.ports, err = loadPorts(cfg.path("ports.json")); err != nil {
		return nil, err
	}

	keep := map[string]*keeper{
		// Postgres gets ten seconds to stop cleanly; what is killed after that loses nothing either.
		postgresPart: {ports: []string{postgresPort}, stopIn: 13 * time.Second, prepare: d.preparePostgres},
		s3Part:       {ports: []string{s3Port}, stopIn: 3 * time.Second, prepare: d.prepareS3},
		temporalPart: {ports: temporalPorts, after: postgresPart, stopIn: 3 * time.Second, prepare: d.prepareTemporal},
	}
	for _, name := range allParts {
		if k := keep[name]; cfg.has(name) {
			k.name, k.stack = name, d
			k.ready, k.ended = make(chan struct{}), make(chan struct{})
			d.parts = append(d.parts, k)
		}
	}
	return d, nil
}

// await returns when a part is ready, or at once if it is not among those that run.
func (d *devstack) await(ctx context.Context, name string) error {
	for _, k := range d.parts {
		if k.name != name {
			continue
		}
		select {
		case <-k.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// addresses says where the parts are that run.
func (d *devstack) addresses() addresses {
	var a addresses
	if d.cfg.has(postgresPart) {
		a.Postgres = d.postgresURL(productDatabase)
	}
	if d.cfg.has(s3Part) {
		a.S3 = &s3Address{
			Endpoint:  "http://" + d.ports.address(s3Port),
			AccessKey: d.creds.S3.AccessKey,
			SecretKey: d.creds.S3.SecretKey,
			Bucket:    bucket,
			Region:    region,
		}
	}
	if d.cfg.has(temporalPart) {
		a.Temporal = d.ports.address(temporalPorts[frontendPort])
		a.TemporalUI = "http://" + d.ports.address(temporalPorts[uiPort])
	}
	return a
}

// postgresURL is the address of a database of the Postgres that we run.
func (d *devstack) postgresURL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(d.creds.Postgres.User, d.creds.Postgres.Password),
		Host:     d.ports.address(postgresPort),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
