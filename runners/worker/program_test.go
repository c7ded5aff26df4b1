package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image/imagetest"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

// programFor configures the guest, in a root folder that has nothing else.
func programFor(t *testing.T, arguments ...string) worker.ProgramConfig {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{"usr/bin", "work"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/bin/guest"), imagetest.Guest(t), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	return worker.ProgramConfig{
		Root: root, Argv: append([]string{"guest"}, arguments...), Dir: "/work", ImageEnv: []string{"PATH=/nonesuch:/bin", "GREETING=hello"},
		Resources: warpket.Resources{CPU: 1000, Memory: 512 << 20},
	}
}

// eachProgram runs a test with the pools that can run programs of images.
func eachProgram(t *testing.T, test func(t *testing.T, from *worker.Pool)) {
	t.Helper()
	namespaces(t)
	pools := map[string]*worker.Pool{"namespaces": pool}
	if hasGVisor() {
		pools["gvisor"] = worker.NewPool(gvisor(t), "", 0, nil)
		t.Cleanup(pools["gvisor"].Close)
	}
	for name, from := range pools {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, from)
		})
	}
}

func openProgram(t *testing.T, from *worker.Pool, config worker.ProgramConfig) *worker.Program {
	t.Helper()
	p, err := from.Program(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestAProgramEndsAsItsExitCodeAndResultSay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		arguments []string
		input     string
		result    string
		code      warpket.FailureCode
		message   string // part of it
		log       string
	}{
		"a result by the descriptor":          {arguments: []string{"echo"}, input: `{"a": [1, 2.50]}`, result: `{"a": [1, 2.50]}`, log: "to the log\nto the log, too\n"},
		"no input is an empty object":         {arguments: []string{"echo"}, result: `{}`, log: "to the log\nto the log, too\n"},
		"a result by the last line":           {arguments: []string{"print", "working", `{"a": 1}`, "", " "}, result: `{"a": 1}`, log: "working\n{\"a\": 1}\n\n \n"},
		"the last line only":                  {arguments: []string{"print", `{"a": 1}`, "done"}, result: "null", log: "{\"a\": 1}\ndone\n"},
		"nothing is null":                     {arguments: []string{"print"}, result: "null"},
		"the descriptor wins over the output": {arguments: []string{"write", "7\n"}, result: "7"},
		"an input that it does not read":      {arguments: []string{"write", "7"}, input: `"` + strings.Repeat("x", 1<<20) + `"`, result: "7"},
		"what is not UTF-8":                   {arguments: []string{"echo"}, input: "\"\xff\"", code: warpket.ResultNotEncodable, message: "is not JSON"},
		"what is not JSON":                    {arguments: []string{"write", "seven"}, code: warpket.ResultNotEncodable, message: "is not JSON"},
		"a result that is too large":          {arguments: []string{"write-long"}, code: warpket.ResultTooLarge, message: "has 68157440 bytes; at most 67108864 are allowed"},
		"a line that is too long":             {arguments: []string{"print-long"}, code: warpket.ResultTooLarge, message: "larger ones go to the descriptor WARPKET_RESULT_FD"},
		"an exit code":                        {arguments: []string{"exit", "3"}, code: warpket.Exited, message: "exit code 3", log: "{\"ignored\": true}\n"},
		"a signal":                            {arguments: []string{"signal"}, code: warpket.Crashed, message: "SIGKILL"},
		"too many files":                      {arguments: []string{"disk"}, code: warpket.DiskFull, message: "more than 128 MiB of files"},
		"too much memory":                     {arguments: []string{"memory"}, code: warpket.OutOfMemory, message: "more than its 512 MiB of memory"},
		"too many processes":                  {arguments: []string{"processes"}, code: warpket.TooManyProcesses, message: "more than 256 processes"},
	}
	eachProgram(t, func(t *testing.T, from *worker.Pool) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if from != pool && test.code == warpket.TooManyProcesses {
					test.code, test.message = warpket.Exited, "resource temporarily unavailable" // gVisor's kernel holds the limit and tells nobody
				}
				var log bytes.Buffer
				got := openProgram(t, from, programFor(t, test.arguments...)).Run(t.Context(), call(test.input), &log)
				if test.code != "" {
					checkFailure(t, got.Failure, test.code, test.message)
				} else if got.Status != warpket.Succeeded || string(got.Result) != test.result {
					t.Errorf("outcome %s %s %+v, want %s\nlog: %s", got.Status, got.Result, got.Failure, test.result, &log)
				}
				if test.log != "" && strings.Count(log.String(), "\n") != strings.Count(test.log, "\n") {
					t.Errorf("log %q, want %q", &log, test.log)
				}
				if got.Ran <= 0 || got.Usage.CPU <= 0 {
					t.Errorf("it ran %s, and used %+v", got.Ran, got.Usage)
				}
			})
		}
	})
}

func TestAProgramFindsItsImageAndItsFunction(t *testing.T) {
	t.Parallel()
	eachProgram(t, findsItsImage)
}

func findsItsImage(t *testing.T, from *worker.Pool) {
	t.Helper()
	config := programFor(t, "world")
	proxy, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	config.Env = map[string]string{"TOKEN": "secret", "GREETING": "hi"}
	proxyAddress := ""
	if from == pool { // programs under gVisor have no network
		config.Egress, proxyAddress = proxy, "http://"+sandbox.ListenAddress
	}
	c := call("{}")
	c.Seed = 7
	got := openProgram(t, from, config).Run(t.Context(), c, &bytes.Buffer{})
	var world struct {
		Env                    map[string]string
		Dir                    string
		UID                    int
		Machine, Tmp, ReadOnly bool
		Arguments              []string
	}
	if err := json.Unmarshal(got.Result, &world); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	for name, want := range map[string]string{
		"TOKEN": "secret", "GREETING": "hi", "HOME": "/tmp", "PATH": "/nonesuch:/bin", "WARPKET_EXECUTION_ID": string(c.ExecutionID), "WARPKET_SHOTS": "512", "WARPKET_SEED": "7",
		"WARPKET_RESULT_FD": "3", "HTTPS_PROXY": proxyAddress, "OMP_NUM_THREADS": "1",
	} {
		if world.Env[name] != want {
			t.Errorf("%s is %q, want %q", name, world.Env[name], want)
		}
	}
	if deadline, err := time.Parse(time.RFC3339, world.Env["WARPKET_DEADLINE"]); err != nil || !deadline.After(time.Now()) {
		t.Errorf("the deadline is %s", world.Env["WARPKET_DEADLINE"])
	}
	if world.Dir != "/work" || (world.UID == 0) != (from != pool && os.Geteuid() != 0) || world.Machine || !world.Tmp || !world.ReadOnly || world.Arguments[0] != "/bin/guest" {
		t.Errorf("it found %+v", world)
	}
}

func TestAProgramFindsTheFilesOfItsFunction(t *testing.T) {
	t.Parallel()
	eachProgram(t, findsItsFiles)
}

func findsItsFiles(t *testing.T, from *worker.Pool) {
	t.Helper()
	code := t.TempDir()
	if err := os.MkdirAll(filepath.Join(code, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(code, "lib", "handler.py"), []byte("of the function"), 0o444); err != nil {
		t.Fatal(err)
	}
	with := func(dir string, arguments ...string) worker.ProgramConfig {
		config := programFor(t, arguments...)
		config.Code, config.Entry, config.Dir = code, "handler.run", dir
		// What the image has there is not to be seen.
		if err := os.Symlink("/work", filepath.Join(config.Root, "code")); err != nil {
			t.Fatal(err)
		}
		return config
	}
	for dir, name := range map[string]string{"/": "lib/handler.py", "/work": "/code/lib/handler.py", "/code": "lib/handler.py"} {
		got := openProgram(t, from, with(dir, "read", name)).Run(t.Context(), call("{}"), &bytes.Buffer{})
		if string(got.Result) != `"of the function"` {
			t.Errorf("in %s it ended %+v", dir, got)
		}
	}
	var world struct {
		Env map[string]string
		Dir string
	}
	got := openProgram(t, from, with("/", "world")).Run(t.Context(), call("{}"), &bytes.Buffer{})
	if err := json.Unmarshal(got.Result, &world); err != nil || world.Dir != "/code" || world.Env["WARPKET_CODE"] != "/code" || world.Env["WARPKET_ENTRY"] != "handler.run" {
		t.Errorf("it found %+v (%v)", world, err)
	}
	config := with("/", "write-code")
	if got := openProgram(t, from, config).Run(t.Context(), call("{}"), &bytes.Buffer{}); string(got.Result) != "false" {
		t.Errorf("it could write there: %+v", got)
	}
}

func TestAProgramThatIsLateOrCancelledIsKilled(t *testing.T) {
	t.Parallel()
	eachProgram(t, func(t *testing.T, from *worker.Pool) {
		late := call("{}")
		late.Timeout = 300 * time.Millisecond
		if from != pool { // starting it may take that long
			late.Timeout = 5 * time.Second
		}
		p := openProgram(t, from, programFor(t, "wait"))
		got := p.Run(t.Context(), late, &bytes.Buffer{})
		if got.Status != warpket.TimedOut {
			t.Errorf("late: %+v", got)
		}
		checkFailure(t, got.Failure, warpket.TimedOutCode, fmt.Sprintf("ran longer than its timeout of %g s", late.Timeout.Seconds()))

		ctx, cancel := context.WithCancel(t.Context())
		got = p.Run(ctx, call("{}"), onWrite(cancel)) // once it says that it runs
		if got.Status != warpket.Cancelled {
			t.Errorf("cancelled: %+v", got)
		}
		if got = p.Run(ctx, call("{}"), &bytes.Buffer{}); got.Status != warpket.Cancelled {
			t.Errorf("cancelled before: %+v", got)
		}
		if !p.Alive() {
			t.Error("it serves no longer")
		}
	})
}

func TestAnImageWithoutItsProgramSaysSo(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change  func(c *worker.ProgramConfig)
		message string // empty: it is found
	}{
		"by its path":               {func(c *worker.ProgramConfig) { c.Argv[0] = "/usr/bin/guest" }, ""},
		"by a path from its folder": {func(c *worker.ProgramConfig) { c.Argv[0] = "../bin/guest" }, ""},
		"a name that is not there":  {func(c *worker.ProgramConfig) { c.Argv[0] = "sh" }, `no program "sh"`},
		"a folder":                  {func(c *worker.ProgramConfig) { c.Argv[0] = "/usr" }, `no program "/usr"`},
		"the machine's":             {func(c *worker.ProgramConfig) { c.Argv[0] = outside }, "no program"},
		"a link that leads out": {func(c *worker.ProgramConfig) {
			_ = os.Symlink(strings.Repeat("../", 30)+outside, filepath.Join(c.Root, "link"))
			c.Argv[0] = "/link"
		}, `no program "/link"`},
		"no command": {func(c *worker.ProgramConfig) { c.Argv = nil }, "neither ENTRYPOINT nor CMD"},
		"no folder":  {func(c *worker.ProgramConfig) { c.Dir = "/srv" }, `no folder "/srv"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := programFor(t, "print")
			test.change(&config)
			namespaces(t)
			p := openProgram(t, pool, config)
			got := p.Run(t.Context(), call("{}"), &bytes.Buffer{})
			if test.message == "" {
				if p.LoadFailure() != nil || got.Status != warpket.Succeeded {
					t.Errorf("%+v, %+v", p.LoadFailure(), got)
				}
				return
			}
			checkFailure(t, p.LoadFailure(), warpket.NoEntry, test.message)
			checkFailure(t, got.Failure, warpket.NoEntry, test.message)
		})
	}
}

func TestPlainProcessesRunNoImages(t *testing.T) {
	t.Parallel()
	plain := worker.NewPool(sandbox.NewPlain(), "", 0, nil)
	t.Cleanup(plain.Close)
	p, err := plain.Program(programFor(t, "print"))
	if err != nil {
		t.Fatal(err)
	}
	checkFailure(t, p.Run(t.Context(), call("{}"), &bytes.Buffer{}).Failure, warpket.NotPrepared, "cannot run on this node, whose isolation is none")
}
