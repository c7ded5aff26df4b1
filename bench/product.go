package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// product is a "warpket dev" of our own, with data of its own.
type product struct {
	data     string // folder
	api      string // URL
	token    string
	temporal string // host:port
	postgres string // URL
	stop     func()
}

const program = "bin/warpket"

// startProduct starts the product and waits until it serves.
func startProduct(ctx context.Context, dir string) (*product, error) {
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w: \"make build\" makes it, and this runs in the root of the repository", err)
	}
	log, err := os.Create(filepath.Join(dir, "product.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	data := filepath.Join(dir, "data")
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, "dev", "--data", data, "--listen", "127.0.0.1:0", "--no-demo")
	cmd.Stdout, cmd.Stderr = log, log
	// It ends its parts in order, which takes a moment.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p := &product{data: data, stop: func() { cancel(); <-ended }}
	if err := p.await(data, cmd.Process.Pid, ended); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// await waits until the product says where it serves.
func (p *product) await(data string, pid int, ended <-chan struct{}) error {
	deadline := time.After(5 * time.Minute) // the first start downloads Postgres
	for {
		var dev struct {
			API, Token, Postgres string
			PID                  int
		}
		if readJSON(filepath.Join(data, "dev.json"), &dev) == nil && dev.PID == pid {
			var ports struct{ Temporal int }
			if err := readJSON(filepath.Join(data, "ports.json"), &ports); err != nil {
				return err
			}
			p.api, p.token, p.temporal, p.postgres = dev.API, dev.Token, fmt.Sprintf("127.0.0.1:%d", ports.Temporal), dev.Postgres
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("the product ended before it served, see product.log")
		case <-deadline:
			return fmt.Errorf("the product does not serve, see product.log")
		case <-time.After(20 * time.Millisecond): // the file is how a script learns that it serves
		}
	}
}

func readJSON(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}
