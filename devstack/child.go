package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is a running part, seen from the devstack.
type child struct {
	process *os.Process
	hold    *os.File   // closing it asks the part to stop
	events  chan event // closed when the part has ended
	err     error      // why it ended; to be read after events is closed
}

// spawn starts a part. Settings go through its standard input, where no other
// process can read them. The pipe then stays open for as long as the devstack
// lives.
func (d *devstack) spawn(part string, settings any, as user) (*child, error) {
	log, err := openLog(d.cfg.path("log", logOf(part)))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	in, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	back, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()

	cmd := exec.Command("/proc/self/exe")                             //nolint:noctx // it ends when hold is closed
	cmd.Args = []string{"warpket-devstack", "part", part, d.cfg.data} // the directory is for whoever reads ps
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, log, log
	cmd.ExtraFiles = []*os.File{out, d.lock} // see eventsFD and lockFD
	// A group of its own: Ctrl-C in a terminal is for the devstack, which stops the parts in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := as.start(cmd); err != nil {
		return nil, errors.Join(as.startError(part, err), hold.Close(), back.Close())
	}

	c := &child{process: cmd.Process, hold: hold, events: make(chan event)}
	go func() {
		defer back.Close()
		lines := json.NewDecoder(back)
		for {
			var e event
			if lines.Decode(&e) != nil {
				break
			}
			c.events <- e
		}
		c.err = cmd.Wait()
		_ = hold.Close()
		close(c.events)
	}()
	if err := json.NewEncoder(hold).Encode(settings); err != nil {
		c.stop(0)
		return nil, fmt.Errorf("starting %s: %w", part, err)
	}
	return c, nil
}

// stop asks the part to end, and kills it if it has not ended in time.
func (c *child) stop(within time.Duration) {
	_ = c.hold.Close()
	deadline := time.AfterFunc(within, func() { _ = c.process.Kill() })
	defer deadline.Stop()
	for range c.events {
		// What it still says is of no interest.
	}
}

// logOf is the name of a part's log. What prepares Postgres writes to Postgres' log.
func logOf(part string) string {
	if part == initdbPart {
		part = postgresPart
	}
	return part + ".log"
}
