package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"golang.org/x/sys/unix"
)

const (
	postgresVersion = postgresMajor + ".6.0"

	// fetchLimit is when a download that does not end has failed.
	fetchLimit = 10 * time.Minute
)

// postgresBinaries returns the directory of Postgres' programs, and fetches
// them first if no devstack has done so before. The directory appears whole or
// not at all, and only one devstack fetches at a time.
func (d *devstack) postgresBinaries(ctx context.Context) (string, error) {
	dir := filepath.Join(d.cfg.cache, "postgres-"+postgresVersion)
	if exists(dir) {
		return dir, nil
	}
	d.out.report(event{Part: postgresPart, Phase: downloading, Detail: "Postgres " + postgresVersion})
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	fetched := make(chan error, 1)
	// The library cannot be interrupted; when ctx ends first, so does this process.
	go func() { fetched <- fetchPostgres(d.cfg.cache, dir) }()

	began := time.Now()
	still := time.NewTicker(5 * time.Second)
	defer still.Stop()
	for {
		select {
		case err := <-fetched:
			if err != nil {
				return "", fmt.Errorf("fetching Postgres %s, which the first start needs the network for: %w\n"+
					"Behind a proxy, set HTTPS_PROXY; or use a Postgres of your own: leave postgres out of the parts and give its address", postgresVersion, err)
			}
			return dir, nil
		case <-still.C:
			d.out.report(event{
				Part: postgresPart, Phase: downloading,
				Detail: fmt.Sprintf("Postgres %s, for %d s now", postgresVersion, int(time.Since(began).Seconds())),
			})
		case <-ctx.Done():
			return "", fmt.Errorf("fetching Postgres %s took too long: %w", postgresVersion, ctx.Err())
		}
	}
}

// fetchPostgres downloads the archive into the cache, if it is not there, and
// unpacks it to dir.
func fetchPostgres(cache, dir string) error {
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if exists(dir) {
		return nil // the one who held the lock before us did it
	}
	work := dir + ".new"
	if err := os.RemoveAll(work); err != nil { // of one who was killed
		return err
	}
	defer os.RemoveAll(work)
	if err := unpackPostgres(cache, work); err != nil {
		return err
	}
	return os.Rename(filepath.Join(work, "unpacked"), dir)
}

// unpackPostgres has the library fetch and unpack the archive. It has no call
// that does only that: starting a server on a data directory that claims to be
// made, but is not, does the rest of it and then fails in the server. What the
// server says comes through the logger, and so tells this failure, which is
// meant, from all others.
func unpackPostgres(cache, work string) error {
	data := filepath.Join(work, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(postgresMajor+"\n"), 0o600); err != nil {
		return err
	}
	unused, err := listenOn(0)
	if err != nil {
		return err
	}
	port := portOf(unused)
	if err := unused.Close(); err != nil {
		return err
	}
	var reached reachedServer
	err = embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(postgresVersion).
		Port(uint32(port)). //nolint:gosec // a port
		CachePath(cache).
		BinariesPath(filepath.Join(work, "unpacked")).
		RuntimePath(filepath.Join(work, "runtime")).
		DataPath(data).
		Logger(&reached)).Start()
	switch {
	case bool(reached):
		return nil
	case err == nil:
		return errors.New("the library started a server where there can be none")
	default:
		return err
	}
}

// reachedServer notes that the server was started and said something.
type reachedServer bool

func (r *reachedServer) Write(p []byte) (int, error) {
	*r = true
	return len(p), nil
}
