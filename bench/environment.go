package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// environments is the folder of the peers' Python environments, which are made
// once.
const environments = ".cache/bench"

// newest is the day after which nothing is taken from the package index, so
// that an environment made later is the same.
const newest = "2026-11-20"

// runtime is what the product runs the functions with.
type runtime struct {
	Python string // such as 3.11
	Lock   string // requirements file with the exact packages
}

// environment is a Python environment of a peer.
type environment struct {
	python  string
	shipped bool // Aer starts as many threads as it likes
}

// threads are the variables that the product sets for a worker with one core,
// set for every peer too, unless it runs as shipped.
var threads = []string{
	"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "RAYON_NUM_THREADS=1", "QISKIT_PARALLEL=FALSE",
}

// makeEnvironment makes a peer's environment: exactly the packages of the
// product's runtime, and those in bench/peers/NAME.txt if there is one.
func makeEnvironment(ctx context.Context, name string, r runtime) (environment, error) {
	list := filepath.Join("bench", "peers", name+".txt")
	packages, err := os.ReadFile(list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return environment{}, err
	}
	sum := sha256.Sum256([]byte(r.Python + r.Lock + string(packages) + newest))
	dir, err := filepath.Abs(filepath.Join(environments, name+"-"+hex.EncodeToString(sum[:6])))
	if err != nil {
		return environment{}, err
	}
	e := environment{python: filepath.Join(dir, "bin", "python")}
	complete, lock := filepath.Join(dir, "complete"), filepath.Join(dir, "runtime.txt")
	if _, err := os.Stat(complete); err == nil {
		return e, nil
	}
	say("making the environment of %s", name)
	if err := uv(ctx, "venv", "--quiet", "--clear", "--python", r.Python, dir); err != nil {
		return e, err
	}
	if err := os.WriteFile(lock, []byte(r.Lock), 0o600); err != nil {
		return e, err
	}
	install := []string{"pip", "install", "--quiet", "--compile-bytecode", "--python", e.python, "--exclude-newer", newest, "-r", lock}
	if len(packages) > 0 {
		install = append(install, "-r", list)
	}
	if err := uv(ctx, install...); err != nil {
		return e, err
	}
	return e, os.WriteFile(complete, nil, 0o600)
}

// uv runs the product's uv.
func uv(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./tools/uv"}, args...)...)
	endGroup(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("uv %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// command is a Python program of bench/peers in the environment.
func (e environment) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return e.plain(ctx, e.python, append([]string{filepath.Join("bench", "peers", name+".py")}, args...)...)
}

// plain is any program, with the variables of the environment.
func (e environment) plain(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if !e.shipped {
		cmd.Env = append(cmd.Env, threads...)
	}
	endGroup(cmd)
	return cmd
}

// front is the program of bench/peers/front.
const front = environments + "/front"

func buildFront(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", front, "./bench/peers/front")
	endGroup(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building front: %w: %s", err, out)
	}
	return nil
}
