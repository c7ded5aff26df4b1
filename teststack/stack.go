package teststack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket/storage/blob"
)

// Addresses say where the servers are, as the devstack does.
type Addresses struct {
	Postgres string      `json:"postgres"`
	S3       blob.Config `json:"s3"`
	Temporal string      `json:"temporal"` // host:port
}

// Binary is the devstack's program, from the root of the repository.
const Binary = "devstack/bin/warpket-devstack"

// ErrNoBinary says that the devstack has not been built.
var ErrNoBinary = errors.New(Binary + ` is missing: "make devstack" builds it (a few minutes the first time)`)

// Stack is a devstack that runs.
type Stack struct {
	Addresses []byte // as JSON

	hold  io.Closer
	ended chan struct{}
}

// Start starts a devstack on a new folder and waits until it is ready. It ends
// with this process at the latest, and takes its folder along.
func Start(ctx context.Context) (*Stack, error) {
	program, err := find(Binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "warpket-teststack-")
	if err != nil {
		return nil, err
	}
	// Postgres may run as another user, who has to get through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// The shell outlives us by a moment, to tidy up.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", `"$0" --data "$1"; rm -rf "$1"`, program, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us
	cmd.Stdout, cmd.Stderr = writer, writer
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = writer.Close()
	if err != nil {
		return nil, fmt.Errorf("starting the devstack: %w", err)
	}

	s := &Stack{hold: hold, ended: make(chan struct{})}
	ready, said := make(chan struct{}), ""
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			var line struct{ Ready json.RawMessage }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Ready != nil && s.Addresses == nil {
				s.Addresses = line.Ready
				close(ready)
			}
			if s.Addresses == nil {
				said += lines.Text() + "\n"
			}
		}
		_ = cmd.Wait()
	}()
	select {
	case <-ready:
		if err := s.hurry(ctx); err != nil {
			s.Stop()
			return nil, err
		}
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("the devstack did not start: %s", strings.TrimSpace(said))
	case <-ctx.Done():
		s.Stop()
		return nil, ctx.Err()
	}
}

// hurry makes Postgres write to disk when it likes: nobody wants the data of
// tests back after a power cut, and databases come and go ten times as fast.
func (s *Stack) hurry(ctx context.Context) error {
	var a Addresses
	if err := json.Unmarshal(s.Addresses, &a); err != nil {
		return err
	}
	return withConn(ctx, a.Postgres, func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range []string{`alter system set fsync = off`, `alter system set full_page_writes = off`, `select pg_reload_conf()`} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("setting up Postgres for tests: %w", err)
			}
		}
		return nil
	})
}

// Stop ends the devstack and waits until it is gone.
func (s *Stack) Stop() {
	_ = s.hold.Close()
	<-s.ended
}

// find gives the absolute path of a file of the repository: tests run in the
// folders of their packages.
func find(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if filepath.Dir(dir) == dir {
			return "", ErrNoBinary
		}
		dir = filepath.Dir(dir)
	}
}
