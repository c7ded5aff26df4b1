package worker_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/runtimes/runtimestest"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

func TestRunEndsAsTheHandlerDoes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		tests := map[string]struct {
			code, input string
			want        warpket.Status
			result      string
			code2       warpket.FailureCode
			message     string // part of it
			traceback   string // part of it
			dead        bool   // whether the worker has ended
		}{
			"a result is encoded": {
				code:  "def handler(event, context):\n    return {'got': event, 'shots': context.shots}",
				input: `{"a": [1, 2.5, null]}`, want: warpket.Succeeded, result: `{"got":{"a":[1,2.5,null]},"shots":512}`,
			},
			"no input is an empty object": {
				code: "def handler(event):\n    return event", want: warpket.Succeeded, result: `{}`,
			},
			"null is an empty object": {
				code: "def handler(event):\n    return event", input: "null", want: warpket.Succeeded, result: `{}`,
			},
			"parameters are bound by name": {
				code: "def handler(a, b=2):\n    return a + b", input: `{"a": 40}`, want: warpket.Succeeded, result: `42`,
			},
			"an unknown parameter is refused": {
				code: "def handler(a, b=2):\n    return a + b", input: `{"a": 1, "z": 2}`,
				want: warpket.Failed, code2: warpket.BadArguments, message: "the handler has no parameter z; its parameters: a, b",
			},
			"a missing parameter is refused": {
				code: "def handler(a):\n    return a", want: warpket.Failed, code2: warpket.BadArguments, message: "the input lacks a",
			},
			"no result is null": {
				code: "def handler():\n    pass", want: warpket.Succeeded, result: `null`,
			},
			"a coroutine is awaited": {
				code: "async def handler(event):\n    return 1", want: warpket.Succeeded, result: `1`,
			},
			"numbers that are not finite are tagged": {
				code: "def handler():\n    return [float('nan'), float('inf')]", want: warpket.Succeeded,
				result: `[{"__type__":"float","value":"nan"},{"__type__":"float","value":"inf"}]`,
			},
			"an exception is told with its traceback": {
				code: "def inner():\n    raise ValueError('no such angle')\n\ndef handler(event, context):\n    inner()",
				want: warpket.Failed, code2: warpket.Raised, message: "ValueError: no such angle",
				traceback: "Traceback (most recent call last):\n  File \"handler.py\", line 5, in handler\n    inner()\n",
			},
			"endless recursion is an exception": {
				code: "def handler(event):\n    return handler(event)",
				want: warpket.Failed, code2: warpket.Raised, message: "RecursionError",
			},
			"what has no JSON form is named": {
				code: "def handler():\n    return {'a': [1, 2, object()]}",
				want: warpket.Failed, code2: warpket.ResultNotEncodable, message: "result['a'][2] is a object, which has no JSON form",
			},
			"a result that is too large is refused": {
				code: "def handler():\n    return 'x' * (64 << 20)",
				want: warpket.Failed, code2: warpket.ResultTooLarge, message: "the result has 67108866 bytes as JSON; at most 67108864 are allowed",
			},
			"sys.exit is a failure and the worker stays": {
				code: "import sys\ndef handler():\n    sys.exit(3)",
				want: warpket.Failed, code2: warpket.Exited, message: "sys.exit(3)",
			},
			"os._exit ends the worker": {
				code: "import os\ndef handler():\n    os._exit(7)",
				want: warpket.Failed, code2: warpket.Exited, message: "exit code 7", dead: true,
			},
			"a signal is named": {
				code: "import os, signal\ndef handler():\n    os.kill(os.getpid(), signal.SIGSEGV)",
				want: warpket.Failed, code2: warpket.Crashed, message: "SIGSEGV", dead: true,
			},
			"closing the control stream ends the worker": {
				code: "import os, time\ndef handler():\n    os.close(4)\n    time.sleep(60)",
				want: warpket.Failed, code2: warpket.Exited, message: "closed the worker's control stream", dead: true,
			},
			"writing to the control stream ends the worker": {
				code: "import os\ndef handler():\n    os.write(4, b'x' * 100)\n    return 1",
				want: warpket.Failed, code2: warpket.Crashed, message: "wrote to the worker's control stream", dead: true,
			},
			"answering in the harness's place ends the worker": {
				code: "import os, struct\ndef handler():\n    head = b'{\"call\": 7}'\n    os.write(4, struct.pack('>IcI', 4 + len(head) + 1, b'r', len(head)) + head + b'1')",
				want: warpket.Failed, code2: warpket.Crashed, message: "an answer is for another call", dead: true,
			},
			"a fork that comes back answers nothing": {
				code: "import os\ndef handler():\n    return 'child' if os.fork() == 0 else 'parent'", want: warpket.Succeeded, result: `"parent"`,
			},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := how.start(t, test.code)
				var log bytes.Buffer
				got := w.Run(t.Context(), call(test.input), &log)
				if got.Status != test.want || string(got.Result) != test.result {
					t.Fatalf("outcome %s %s %+v, want %s %s\nlog: %s", got.Status, got.Result, got.Failure, test.want, test.result, &log)
				}
				if test.code2 != "" {
					checkFailure(t, got.Failure, test.code2, test.message)
					if !strings.Contains(got.Failure.Traceback, test.traceback) {
						t.Errorf("traceback\n%s\nhas not\n%s", got.Failure.Traceback, test.traceback)
					}
					if strings.Contains(got.Failure.Traceback, "warpket_harness") {
						t.Errorf("the traceback shows the harness:\n%s", got.Failure.Traceback)
					}
				}
				if w.Alive() == test.dead {
					t.Errorf("alive %v, want %v", w.Alive(), !test.dead)
				}
			})
		}
	})
}

func TestALateRunIsKilled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "import time\ndef handler():\n    print('sleeping')\n    time.sleep(60)")
		var log bytes.Buffer
		c := call("")
		c.Timeout = 200 * time.Millisecond
		got := w.Run(t.Context(), c, &log)
		if got.Status != warpket.TimedOut || log.String() != "sleeping\n" {
			t.Errorf("status %s, log %q", got.Status, &log)
		}
		checkFailure(t, got.Failure, warpket.TimedOutCode, "ran longer than its timeout of 0.2 s")
		if w.Alive() {
			t.Error("the worker lives on")
		}
		again := w.Run(t.Context(), call(""), nil)
		checkFailure(t, again.Failure, warpket.NotPrepared, "had ended before")
	})
}

func TestACancelledRunIsKilled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "import time\ndef handler():\n    print('sleeping')\n    time.sleep(60)")
		ctx, cancel := context.WithCancel(t.Context())
		got := w.Run(ctx, call(""), onWrite(cancel))
		if got.Status != warpket.Cancelled || w.Alive() {
			t.Errorf("status %s, alive %v", got.Status, w.Alive())
		}
	})
}

func TestARunThatIsCancelledBeforeItBeginsHarmsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "def handler():\n    return 1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := w.Run(ctx, call(""), nil); got.Status != warpket.Cancelled || !w.Alive() {
			t.Errorf("status %s, alive %v", got.Status, w.Alive())
		}
		if got := w.Run(t.Context(), call(""), nil); got.Status != warpket.Succeeded {
			t.Errorf("%+v", got.Failure)
		}
	})
}

func TestAKillFromOutsideIsACrash(t *testing.T) {
	t.Parallel()
	w := start(t, "import os, time\ndef handler():\n    print(os.getpid())\n    time.sleep(60)")
	got := w.Run(t.Context(), call(""), onLine(func(line string) {
		pid, _ := strconv.Atoi(line)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}))
	checkFailure(t, got.Failure, warpket.Crashed, "SIGKILL")
}

func TestChildrenOfTheHandlerEndWithTheWorker(t *testing.T) {
	t.Parallel()
	w := start(t, "import subprocess\ndef handler():\n    return subprocess.Popen(['sleep', '60']).pid")
	got := w.Run(t.Context(), call(""), nil)
	pid, err := strconv.Atoi(string(got.Result))
	if err != nil {
		t.Fatalf("result %s, %+v", got.Result, got.Failure)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return ended(pid) })
}

func TestTheLogIsWholeAndOfThisRunOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, `
import os, sys, threading, time
print("while importing")
go = threading.Event()
def late():
    go.wait()
    for i in range(1000):
        print("between")
threading.Thread(target=late, daemon=True).start()
def handler(event, context):
    for i in range(2000):
        print("line", i)
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw\n")
    context.log("last", context.is_warm)
    if event.get("late"):
        sys.stdout.flush()
        go.set()
`)
		var want strings.Builder
		for i := range 2000 {
			want.WriteString("line " + strconv.Itoa(i) + "\n")
		}
		want.WriteString("to stderr\nraw\nlast ")
		for i := range 5 {
			var log bytes.Buffer
			if got := w.Run(t.Context(), call(""), &log); got.Status != warpket.Succeeded {
				t.Fatal(got.Failure)
			}
			warm := "False\n"
			if i > 0 {
				warm = "True\n"
			}
			if diff := cmp.Diff(want.String()+warm, log.String()); diff != "" {
				t.Fatalf("run %d: %s", i, diff)
			}
		}
	})
}

func TestAFloodOfOutputStopsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "import sys\ndef handler():\n    for _ in range(256):\n        sys.stdout.write('x' * (1 << 20))\n    return 'done'")
		var n counter
		got := w.Run(t.Context(), call(""), &n)
		if string(got.Result) != `"done"` || n != 256<<20 {
			t.Errorf("result %s, %d bytes of log", got.Result, n)
		}
	})
}

func TestAFloodThatNeverEndsDoesNotHoldUpTheResult(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "import subprocess\ndef handler():\n    subprocess.Popen(['yes'])\n    return 1")
		for range 3 {
			var n counter
			if got := w.Run(t.Context(), call(""), &n); string(got.Result) != "1" {
				t.Fatalf("result %s, %+v", got.Result, got.Failure)
			}
		}
	})
}

func TestCodeThatCannotBeLoadedAnswersEveryCall(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		tests := map[string]struct {
			code, entry, message, traceback string
			want                            warpket.FailureCode
		}{
			"an import fails":         {"import nonesuch", "handler.handler", "ModuleNotFoundError: No module named 'nonesuch'", `File "handler.py", line 1, in <module>`, warpket.ImportFailed},
			"the syntax is wrong":     {"def handler(:", "handler.handler", "SyntaxError: invalid syntax", `File "handler.py", line 1`, warpket.ImportFailed},
			"the module raises":       {"1/0", "handler.handler", "ZeroDivisionError: division by zero", "<module>", warpket.ImportFailed},
			"there is no such file":   {"", "other.handler", "there is no other.py", "", warpket.ImportFailed},
			"there is no such name":   {"def main(): pass", "handler.handler", "handler.py has no function handler; it has main", "", warpket.NoEntry},
			"the name is no function": {"handler = 1", "handler.handler", "handler.py has no function handler", "", warpket.NoEntry},
			"it calls sys.exit":       {"import sys; sys.exit(2)", "handler.handler", "sys.exit(2)", "", warpket.Exited},
			"it ends the process":     {"import os; os._exit(2)", "handler.handler", "exit code 2", "", warpket.Exited},
			"it takes too long":       {"import time; time.sleep(60)", "handler.handler", "importing took longer than its timeout of 0.5 s", "", warpket.TimedOutCode},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				config := configFor(t, test.code)
				config.Entry = test.entry
				if test.want == warpket.TimedOutCode {
					config.LoadTimeout = 500 * time.Millisecond
				}
				w := how.startWith(t, config)
				checkFailure(t, w.LoadFailure(), test.want, test.message)
				if !strings.Contains(w.LoadFailure().Traceback, test.traceback) {
					t.Errorf("traceback:\n%s", w.LoadFailure().Traceback)
				}
				for range 2 {
					got := w.Run(t.Context(), call(""), nil)
					if diff := cmp.Diff(w.LoadFailure(), got.Failure); diff != "" {
						t.Error(diff)
					}
				}
				if !w.Alive() {
					t.Error("the worker is to be replaced, which would not help")
				}
			})
		}
	})
}

func TestTheContextTellsAboutTheExecution(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, `
import os, random
def handler(event, context):
    c = context
    assert 0 < c.remaining_time() <= 30, c.remaining_time()
    assert c.deadline > 0
    return [c.execution_id, c.function, c.version, c.sdk, c.sdk_version, c.shots, c.seed, c.target, c.attempt,
            c.is_warm, random.random(), os.environ["GREETING"], os.access(os.environ["HOME"], os.W_OK)]
`)
		first := w.Run(t.Context(), call(""), nil)
		second := w.Run(t.Context(), call(""), nil)
		random := `0.8444218515250481` // Python's first of seed 0
		expected := `["the-execution","bell",3,"python","3.11",512,0,"simulator",1,false,` + random + `,"hello",true]`
		if string(first.Result) != expected {
			t.Errorf("got  %s %+v\nwant %s", first.Result, first.Failure, expected)
		}
		if string(second.Result) != strings.Replace(expected, "false", "true", 1) {
			t.Errorf("warm: %s", second.Result)
		}
	})
}

func TestTwoWorkersRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	// Each waits for the other's pipe: in turns they would never end.
	folder := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := syscall.Mkfifo(filepath.Join(folder, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code := "def handler(first, second):\n    open(first[0], first[1]).close()\n    open(second[0], second[1]).close()"
	a, b := filepath.Join(folder, "a"), filepath.Join(folder, "b")
	inputs := []string{
		`{"first": ["` + a + `", "r"], "second": ["` + b + `", "w"]}`,
		`{"first": ["` + a + `", "w"], "second": ["` + b + `", "r"]}`,
	}
	var all sync.WaitGroup
	for _, input := range inputs {
		w := start(t, code)
		all.Go(func() {
			if got := w.Run(t.Context(), call(input), nil); got.Status != warpket.Succeeded {
				t.Errorf("%+v", got.Failure)
			}
		})
	}
	all.Wait()
}

func TestALargeInputAndResultPass(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "def handler(event):\n    return event")
		input := `{"text":"` + strings.Repeat("x", 8<<20) + `"}`
		got := w.Run(t.Context(), call(input), nil)
		if string(got.Result) != input {
			t.Errorf("%d bytes came back of %d; %+v", len(got.Result), len(input), got.Failure)
		}
		if got.Ran <= 0 || got.Started <= 0 {
			t.Errorf("started %s, ran %s", got.Started, got.Ran)
		}
	})
}

func TestThePythonSideInItsOwnTests(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), environment(t).Python, "-B", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
	cmd.Dir = "harness"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkWarmEcho(b *testing.B) {
	w := start(b, "def handler(event, context):\n    return event")
	c := call(`{"a": 1}`)
	w.Run(b.Context(), c, nil)
	var ran time.Duration
	for b.Loop() {
		got := w.Run(b.Context(), c, nil)
		if got.Status != warpket.Succeeded {
			b.Fatal(got.Failure)
		}
		ran += got.Ran
	}
	b.ReportMetric(float64(ran.Microseconds())/float64(b.N), "µs-in-worker/op")
}

// environment gives an environment without packages.
func environment(t testing.TB) runtimes.Env {
	t.Helper()
	shared.Do(func() {
		store, pythons := runtimestest.Shared(t)
		minor := pythons[0].Minor
		bare, bareErr = store.Install(context.Background(), runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor)}, nil)
	})
	if bareErr != nil {
		t.Fatal(bareErr)
	}
	return bare
}

var (
	shared  sync.Once
	bare    runtimes.Env
	bareErr error
)

func configFor(t testing.TB, code string) worker.Config {
	t.Helper()
	folder := t.TempDir()
	harness, err := worker.WriteHarness(filepath.Join(folder, "harness"))
	if err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(folder, "code")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "handler.py"), []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	return worker.Config{
		Name:       t.Name(),
		Launcher:   sandbox.NewPlain(),
		Runtime:    environment(t),
		Harness:    harness,
		Code:       files,
		Scratch:    filepath.Join(folder, "scratch"),
		Entry:      "handler.handler",
		SDK:        "python",
		SDKVersion: "3.11",
		Resources:  warpket.Resources{CPU: 2500, Memory: 512 << 20},
		Env:        map[string]string{"GREETING": "hello", "HOME": "/nowhere"},
	}
}

// way is one of the ways in which a worker comes to be: each passes the same tests.
type way struct {
	name      string
	startWith func(t testing.TB, config worker.Config) *worker.Worker
}

// ways are those in which workers are kept apart: processes in a sandbox, under
// gVisor where its program is, and parked children.
func ways() map[string]func(testing.TB, worker.Config) *worker.Worker {
	all := map[string]func(testing.TB, worker.Config) *worker.Worker{"sandboxed": startSandboxed, "parked": startParked}
	if hasGVisor() {
		all["gvisor"] = startUnderGVisor
	}
	return all
}

// each runs a test in all of these ways, and for workers that are plain processes.
func each(t *testing.T, test func(t *testing.T, how way)) {
	t.Helper()
	all := ways()
	all["plain"] = startWith
	for name, startWith := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, way{name, startWith})
		})
	}
}

func (w way) start(t testing.TB, code string) *worker.Worker {
	t.Helper()
	return loaded(t, w.startWith(t, configFor(t, code)))
}

func startSandboxed(t testing.TB, config worker.Config) *worker.Worker {
	t.Helper()
	config.Launcher = namespaces(t)
	return startWith(t, config)
}

func startParked(t testing.TB, config worker.Config) *worker.Worker {
	t.Helper()
	namespaces(t)
	config.Resources.CPU, config.Project = 1000, "the-project"
	w, err := pool.Start(t.Context(), config)
	return closed(t, w, err)
}

func start(t testing.TB, code string) *worker.Worker {
	t.Helper()
	return loaded(t, startWith(t, configFor(t, code)))
}

func loaded(t testing.TB, w *worker.Worker) *worker.Worker {
	t.Helper()
	if f := w.LoadFailure(); f != nil {
		t.Fatalf("%s: %s\n%s", f.Code, f.Message, f.Traceback)
	}
	return w
}

func startWith(t testing.TB, config worker.Config) *worker.Worker {
	t.Helper()
	w, err := worker.Start(t.Context(), config)
	return closed(t, w, err)
}

func closed(t testing.TB, w *worker.Worker, err error) *worker.Worker {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func call(input string) worker.Call {
	return worker.Call{
		ExecutionID: "the-execution", FunctionID: "the-function", FunctionName: "bell", Version: 3,
		Input: []byte(input), Shots: 512, Timeout: 30 * time.Second, Target: warpket.Simulator, Attempt: 1,
	}
}

func checkFailure(t *testing.T, got *warpket.Failure, code warpket.FailureCode, message string) {
	t.Helper()
	if got == nil || got.Code != code || !strings.Contains(got.Message, message) {
		t.Errorf("failure %+v, want %s: ...%s...", got, code, message)
	}
}

// onWrite calls a function with whatever is written first.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

type onLine func(string)

func (f onLine) Write(b []byte) (int, error) {
	f(strings.TrimSpace(string(b)))
	return len(b), nil
}

type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// ended reports whether a process is gone or dead and not yet reaped.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0] == "Z" || fields[0] == "X"
}

// waitFor yields until a condition holds that nothing announces.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}

func BenchmarkStartWithoutSDK(b *testing.B) {
	config := configFor(b, "def handler(event):\n    return event")
	for b.Loop() {
		w, err := worker.Start(b.Context(), config)
		if err != nil || w.LoadFailure() != nil {
			b.Fatal(err)
		}
		_ = w.Close()
	}
}
