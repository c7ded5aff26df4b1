package worker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/worker"
)

// cudaFor configures a program that was "built" before: a script.
func cudaFor(t *testing.T, script string) worker.CUDAConfig {
	t.Helper()
	namespaces(t)
	dir := t.TempDir()
	for _, folder := range []string{"code", "binary"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "binary", "program")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return worker.CUDAConfig{
		Code: filepath.Join(dir, "code"), Entry: "main.cu", Scratch: filepath.Join(dir, "scratch"), Binary: binary,
		Devices: []string{"/dev/tty"}, DeviceEnv: []string{"CUDA_VISIBLE_DEVICES=GPU-1"}, Resources: warpket.Resources{CPU: 1000, Memory: 512 << 20},
		Env: map[string]string{"OWN": "mine"},
	}
}

func TestAProgramForAGPUGetsItsDevicesAndItsInput(t *testing.T) {
	t.Parallel()
	c := pool.CUDA(cudaFor(t, `
test -e /dev/tty || exit 3
echo log of $CUDA_VISIBLE_DEVICES $OWN
echo kept > $HOME/here || exit 4
cat >&3
`))
	for range 2 { // each call has a folder of its own
		var log bytes.Buffer
		out := c.Run(t.Context(), worker.Call{Target: warpket.GPU, Input: json.RawMessage(`{"n": 3}`)}, &log)
		if out.Status != warpket.Succeeded || string(out.Result) != `{"n": 3}` || log.String() != "log of GPU-1 mine\n" {
			t.Errorf("ended %+v, %+v, %q", out, out.Failure, log.String())
		}
	}
	failed := pool.CUDA(cudaFor(t, "echo CUDA driver version is insufficient >&2; exit 1\n"))
	if out := failed.Run(t.Context(), worker.Call{Target: warpket.GPU}, &bytes.Buffer{}); out.Failure == nil || out.Failure.Code != warpket.Exited || !strings.HasSuffix(out.Failure.Message, "CUDA driver version is insufficient") {
		t.Errorf("failed, it is %+v", out.Failure)
	}
}

func TestNoTargetTakesThePlaceOfAnother(t *testing.T) {
	t.Parallel()
	config := cudaFor(t, "echo must not run")
	config.Devices = nil
	for target, says := range map[warpket.Target]string{
		warpket.GPU:     "its slot has no GPU",
		warpket.Sim:     `not on "sim"`,
		warpket.CPU:     `not on "cpu"`,
		warpket.Compile: "has no nvcc",
	} {
		var log bytes.Buffer
		out := pool.CUDA(config).Run(t.Context(), worker.Call{Target: target}, &log)
		if out.Failure == nil || out.Failure.Code != warpket.NotPrepared || !strings.Contains(out.Failure.Message, says) || log.Len() > 0 {
			t.Errorf("on %s it ends %+v, %q", target, out.Failure, log.String())
		}
	}
}
