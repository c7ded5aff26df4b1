package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a child may take to end before it is killed. Together they stay
// below the 30 s in which Ctrl-C ends everything.
const (
	stopTime  = 4 * time.Second
	stackTime = 20 * time.Second // a database that is busy
)

// child is a process that dev keeps running. It holds the child's standard
// input open: when dev dies, however that is, the child sees its end and ends.
type child struct {
	name    string
	command func() *exec.Cmd
	log     string // file for its standard error
	event   func(line []byte)
	patient time.Duration // how long it may take to end

	mu      sync.Mutex
	cmd     *exec.Cmd
	stdin   io.Closer
	exited  chan struct{} // closed when the process has ended
	exit    error
	stopped bool
}

// child makes a child that is this program with another verb. Its environment
// is dev's with the given variables instead of dev's own settings.
func (d *dev) child(verb string, env map[string]string) *child {
	c := d.config
	all := map[string]string{"WARPKET_PYTHON_INDEX": c.index, "WARPKET_CACHE": c.cache, "WARPKET_ALLOW_REGISTRIES": c.images.allow, "WARPKET_LOG_LEVEL": c.log}
	maps.Copy(all, env)
	return &child{name: verb, patient: stopTime, log: d.path("log", verb+".log"), command: func() *exec.Cmd {
		cmd := exec.Command(d.self, verb, "--watch-stdin") //nolint:noctx // ended in order, see stop
		cmd.Env = environ(all)
		return cmd
	}}
}

// environ is this process's environment with WARPKET_ variables replaced.
func environ(set map[string]string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WARPKET_") })
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] != "" {
			env = append(env, name+"="+set[name])
		}
	}
	return env
}

// start starts the child and returns when it says that it is ready.
func (c *child) start(ctx context.Context) error {
	ready, err := c.launch()
	if err != nil {
		return err
	}
	select {
	case <-ready:
		return nil
	case <-c.exited:
		return fmt.Errorf("the %s ended before it was ready: %w\n%s", c.name, c.exit, c.tail())
	case <-ctx.Done():
		c.stop(func(string, ...any) {})
		return ctx.Err()
	}
}

// launch starts the process. The channel is closed when it says "ready".
func (c *child) launch() (ready chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := c.command()
	cmd.Stderr = log
	// A group of its own: Ctrl-C is for dev, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", c.name, err)
	}
	c.cmd, c.stdin, c.exited, c.exit = cmd, stdin, make(chan struct{}), nil
	ready = make(chan struct{})
	go func(exited chan struct{}) {
		said := false
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if c.event != nil {
				c.event(lines.Bytes())
			}
			var m struct{ Ready json.RawMessage }
			if json.Unmarshal(lines.Bytes(), &m) == nil && m.Ready != nil && !said {
				said = true
				close(ready)
			}
		}
		err := cmd.Wait()
		if err == nil {
			err = errors.New("it ended by itself")
		}
		c.mu.Lock()
		c.exit = err
		c.mu.Unlock()
		close(exited)
	}(c.exited)
	return ready, nil
}

// keep starts the child again whenever it ends, until ctx ends. One that ends
// again and again is an error.
func (c *child) keep(ctx context.Context, say func(string, ...any)) error {
	pause := 100 * time.Millisecond
	for {
		c.mu.Lock()
		exited := c.exited
		c.mu.Unlock()
		begun := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-exited:
		}
		if time.Since(begun) > 30*time.Second {
			pause = 100 * time.Millisecond
		}
		if pause > 10*time.Second {
			return fmt.Errorf("the %s ends again and again: %w\n%s", c.name, c.exit, c.tail())
		}
		say("the %s has ended (%v); starting it again", c.name, c.exit)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause *= 2
		c.mu.Lock()
		stopped := c.stopped
		c.mu.Unlock()
		if stopped {
			return nil
		}
		if _, err := c.launch(); err != nil {
			return err
		}
	}
}

// stop ends the child: by the end of its standard input, and by force if that
// does not help.
func (c *child) stop(say func(string, ...any)) {
	c.mu.Lock()
	c.stopped = true
	stdin, exited, cmd := c.stdin, c.exited, c.cmd
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = stdin.Close()
	select {
	case <-exited:
	case <-time.After(c.patient):
		say("the %s does not end; killing it", c.name)
		_ = cmd.Process.Kill()
		<-exited
	}
}

// tail is the end of the child's log.
func (c *child) tail() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// startStack starts the parts that are not given from outside, and shows their
// progress.
func (d *dev) startStack(ctx context.Context) (*child, error) {
	c := d.config
	d.stack.Postgres, d.stack.Temporal, d.stack.TemporalUI = c.postgres, c.temporal.address, c.temporal.ui
	d.stack.S3.Endpoint, d.stack.S3.AccessKey, d.stack.S3.SecretKey = c.s3.endpoint, c.s3.accessKey, c.s3.secretKey
	d.stack.S3.Bucket, d.stack.S3.Region = c.s3.bucket, c.s3.region
	var parts []string
	for part, given := range map[string]string{"postgres": c.postgres, "s3": c.s3.endpoint, "temporal": c.temporal.address} {
		if given == "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return &child{name: "devstack", exited: make(chan struct{})}, nil
	}
	slices.Sort(parts)
	program := filepath.Join(filepath.Dir(d.self), "warpket-devstack")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%s is missing: \"make build\" makes it beside this program; or give the address of each part (see \"warpket dev --help\")", program)
	}
	args := []string{"--data", d.data, "--parts", strings.Join(parts, ",")}
	env := map[string]string{"WARPKET_CACHE": c.cache}
	if c.postgres != "" && slices.Contains(parts, "temporal") {
		env["WARPKET_DEVSTACK_POSTGRES_URL"] = c.postgres
	}
	stack := &child{name: "devstack", patient: stackTime, log: d.path("log", "devstack-start.log"), command: func() *exec.Cmd {
		cmd := exec.Command(program, args...) //nolint:noctx // ended in order, see stop
		cmd.Env = environ(env)
		return cmd
	}}
	var once sync.Once
	stack.event = func(line []byte) {
		var m struct {
			Part, Phase, Detail string
			Ready               json.RawMessage
		}
		if json.Unmarshal(line, &m) != nil {
			return
		}
		switch {
		case m.Ready != nil:
			once.Do(func() { _ = json.Unmarshal(m.Ready, &d.stack) }) // its own words; a restart changes nothing
		case m.Phase == "ready":
			d.say("✓ %s", m.Part)
		case m.Phase != "stopped":
			d.say("… %s: %s %s", m.Part, m.Phase, m.Detail)
		}
	}
	return stack, stack.start(ctx)
}
