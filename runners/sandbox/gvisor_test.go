package sandbox_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

func TestAProgramUnderGVisorReachesASocketThatItWasGiven(t *testing.T) {
	t.Parallel()
	if !hasGVisor() {
		t.Skip(runsc + ` names no runsc; "make test" builds one`)
	}
	folder := openDir(t)
	socket := filepath.Join(folder, "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	must(t, os.Chmod(socket, 0o666))
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.Copy(c, c)
	}()
	spec := script(t, `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(sys.argv[1])
s.sendall(b"hello")
s.shutdown(socket.SHUT_WR)
print(s.recv(100))`, socket)
	spec.ReadOnly = []string{folder}
	if _, got, _ := run(t, gvisor(t), spec); got != "b'hello'\n" {
		t.Errorf("%q", got)
	}
}

func TestGVisorWithoutItsProgramIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := sandbox.NewGVisor(t.Context(), filepath.Join(t.TempDir(), "runsc"), launcherName(t)); warpket.KindOf(err) != warpket.Unavailable {
		t.Errorf("error %v", err)
	}
	program := filepath.Join(t.TempDir(), "runsc")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\necho systrap is not for this machine >&2; exit 1\n"), 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := sandbox.NewGVisor(ctx, program, launcherName(t)); err == nil {
		t.Error("it was taken")
	}
}
