package sandbox_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
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
	dir := openDir(t)
	source := harness
	if _, err := os.Stat(source); err != nil {
		source = "harness"
	}
	program, code := filepath.Join(dir, "harness"), filepath.Join(dir, "code")
	must(t, os.CopyFS(program, os.DirFS(source)))
	must(t, os.Mkdir(code, 0o755))
	must(t, os.WriteFile(filepath.Join(code, "executor.py"), []byte(executor), 0o644))

	sdk := given["sdk"].(string)
	nest, _, err := launcher.Nest(t.Context(), sandbox.Spec{
		Name: t.Name() + "-nest", Argv: []string{python, "-I", "-B", "-X", "utf8", program, "nest"}, Env: []string{"LANG=C.UTF-8"},
		ReadOnly: []string{program, sdk}, Limits: sandbox.Limits{OpenFiles: 64},
	}, map[string]any{"modules": []string{}, "below_tmp": []string{program, sdk}})
	must(t, err)
	t.Cleanup(func() { must(t, nest.Close()) })

	control, theirControl := pipe(t)
	theirControl, control = control, theirControl
	answers, theirAnswers := pipe(t)
	output, theirOutput := pipe(t)
	cell, err := nest.Cell(t.Context(), t.Name(), sandbox.Limits{Memory: 256 << 20, Processes: 64}, [3]*os.File{theirControl, theirAnswers, theirOutput})
	must(t, err)
	t.Cleanup(func() { must(t, cell.Close()) })
	for _, f := range []*os.File{theirControl, theirAnswers, theirOutput} {
		must(t, f.Close())
	}
	go func() { _, _ = io.Copy(io.Discard, answers) }()

	must(t, cell.WriteCode(code))
	scratch := given["scratch"]
	given["scratch"] = "/tmp" // the only folder that it may write
	argv := attackers(t, given, false)
	given["scratch"] = scratch
	send(t, control, 'L', map[string]any{
		"entry": "executor.handler", "folder": sandbox.CodeFolder, "env": nil, "sdk": "", "sdk_version": "", "memory": 0, "data_limit": 0, "max_result": 1,
	}, nil)
	input, err := json.Marshal(map[string]any{"argv": argv})
	must(t, err)
	send(t, control, 'R', map[string]any{
		"call": 1, "execution_id": "", "function_id": "", "function": "", "version": 1, "shots": 1, "seed": 1, "target": "", "attempt": 1, "timeout": 60,
	}, input)
	out, err := io.ReadAll(output)
	must(t, err)
	return answersOf(t, out)
}

func answersOf(t *testing.T, out []byte) map[string]string {
	t.Helper()
	return answers(t, bytes.TrimSpace(out))
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
