package sandbox_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warpket/warpket/runners/sandbox"
)

// harness is the program that makes cells, where this test is run in its
// folder; the tests as an ordinary user have a copy beside them.
const harness = "../worker/harness"

// executor is a function whose worker becomes another program, with all that
// keeps the worker in its cell.
const executor = `
import os
def handler(argv):
    os.chdir("/")
    os.execve(argv[0], argv, {"ONLY": "this"})
`

// fromInsideACell runs the attacks where a parked child runs the code of a
// function.
func fromInsideACell(t *testing.T, launcher *sandbox.Namespaces, given map[string]any) map[string]string {
	t.Helper()
	scratch := given["scratch"]
	given["scratch"] = "/tmp" // the only folder that it may write
	argv := attackers(t, given, false)
	given["scratch"] = scratch
	out, _ := runInACell(t, launcher, sandbox.Limits{Memory: 256 << 20, Processes: 64}, argv, given["sdk"].(string))
	return answers(t, []byte(strings.TrimSpace(out)))
}

// runInACell has a parked child become a program, and gives what that has printed
// and how it ended.
func runInACell(t *testing.T, launcher *sandbox.Namespaces, limits sandbox.Limits, argv []string, readOnly ...string) (string, sandbox.Exit) {
	t.Helper()
	code := filepath.Join(openDir(t), "code")
	must(t, os.Mkdir(code, 0o755))
	must(t, os.WriteFile(filepath.Join(code, "executor.py"), []byte(executor), 0o644))
	control, theirControl := pipe(t)
	theirControl, control = control, theirControl
	answers, theirAnswers := pipe(t)
	output, theirOutput := pipe(t)
	cell, err := nestOf(t, launcher, copyOfHarness(t), readOnly...).Cell(t.Context(), t.Name(), limits, [3]*os.File{theirControl, theirAnswers, theirOutput})
	must(t, err)
	t.Cleanup(func() { must(t, cell.Close()) })
	for _, f := range []*os.File{theirControl, theirAnswers, theirOutput} {
		must(t, f.Close())
	}
	go func() { _, _ = io.Copy(io.Discard, answers) }()

	must(t, cell.WriteCode(code))
	load := map[string]any{
		"entry": "executor.handler", "folder": sandbox.CodeFolder, "env": nil, "sdk": "", "sdk_version": "", "memory": 0, "data_limit": 0, "max_result": 1,
	}
	if !enforced(launcher, "memory") {
		load["data_limit"] = limits.Memory
	}
	send(t, control, 'L', load, nil)
	input, err := json.Marshal(map[string]any{"argv": argv})
	must(t, err)
	send(t, control, 'R', map[string]any{
		"call": 1, "execution_id": "", "function_id": "", "function": "", "version": 1, "shots": 1, "seed": 1, "target": "", "attempt": 1, "timeout": 60,
	}, input)
	out := drain(t, output)
	exit, err := cell.Wait(t.Context())
	must(t, err)
	must(t, cell.Close())
	return out, exit
}

// copyOfHarness is one that sandboxes of every user may read.
func copyOfHarness(t *testing.T) string {
	t.Helper()
	source := harness
	if _, err := os.Stat(source); err != nil {
		source = "harness"
	}
	program := filepath.Join(openDir(t), "harness")
	must(t, os.CopyFS(program, os.DirFS(source)))
	return program
}

// nestOf starts the program that makes cells as package worker does.
func nestOf(t *testing.T, launcher *sandbox.Namespaces, program string, readOnly ...string) *sandbox.Nest {
	t.Helper()
	readOnly = append(readOnly, program)
	nest, _, err := launcher.Nest(t.Context(), sandbox.Spec{
		Name: t.Name() + "-nest-" + filepath.Base(filepath.Dir(program)), Argv: []string{python, "-I", "-B", "-X", "utf8", program, "nest"}, Env: []string{"LANG=C.UTF-8"},
		ReadOnly: readOnly, Limits: sandbox.Limits{Memory: 128 << 20, OpenFiles: 64},
	}, map[string]any{"modules": []string{}, "below_tmp": readOnly})
	must(t, err)
	t.Cleanup(func() { must(t, nest.Close()) })
	return nest
}

func TestABombInACellGetsWhatTheCellMayHave(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		namespaces, ok := launcher.(*sandbox.Namespaces)
		if !ok {
			return
		}
		t.Run("of processes", func(t *testing.T) {
			t.Parallel()
			bomb := "import os, signal\nn = 0\ntry:\n  while n < 400:\n    if os.fork() == 0: signal.pause()\n    n += 1\nexcept BlockingIOError: pass\nprint(n)"
			out, _ := runInACell(t, namespaces, sandbox.Limits{Processes: 40}, []string{python, "-I", "-c", bomb})
			var n int
			if _, err := fmt.Sscan(out, &n); err != nil || n < 10 || n > 40 {
				t.Errorf("%q, %v", out, err)
			}
		})
		t.Run("of memory", func(t *testing.T) {
			t.Parallel()
			// Which is more than the nest may have.
			bomb := "x = []\nfor n in range(400):\n  x.append(bytearray(1 << 20))\n  if n == 199: print('half', flush=True)\nprint('everything')"
			out, _ := runInACell(t, namespaces, sandbox.Limits{Memory: 300 << 20}, []string{python, "-I", "-c", bomb})
			if !strings.HasPrefix(out, "half\n") || strings.Contains(out, "everything") {
				t.Errorf("%q", out)
			}
		})
	})
}

// send sends a frame as package worker does.
func send(t *testing.T, to io.Writer, kind byte, header any, body []byte) {
	t.Helper()
	head, err := json.Marshal(header)
	must(t, err)
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(head)+len(body)))
	frame = append(frame, kind)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(head)))
	_, err = to.Write(append(append(frame, head...), body...))
	must(t, err)
}
