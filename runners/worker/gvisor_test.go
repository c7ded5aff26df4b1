package worker_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

// withPython lets programs read the interpreter of a runtime too, which may
// lie outside of the system's folders.
type withPython struct {
	sandbox.Launcher
	python string
}

func (l withPython) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	real, err := filepath.EvalSymlinks(l.python)
	if err != nil {
		return nil, err
	}
	if folder := filepath.Dir(filepath.Dir(real)); folder != "/usr" {
		spec.ReadOnly = append(spec.ReadOnly, folder)
	}
	return l.Launcher.Start(ctx, spec)
}

// underGVisor starts a worker with the runsc that WARPKET_TEST_RUNSC names.
func underGVisor(t *testing.T, code string) *worker.Worker {
	t.Helper()
	runsc := os.Getenv("WARPKET_TEST_RUNSC")
	if runsc == "" {
		if os.Getenv("CI") != "" {
			t.Fatal(`WARPKET_TEST_RUNSC names no runsc; "make test" builds one`)
		}
		t.Skip(`WARPKET_TEST_RUNSC names no runsc; "make test" builds one`)
	}
	launcher, err := sandbox.NewGVisor(t.Context(), runsc, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = launcher.Close() })
	config := configFor(t, code)
	config.Launcher = withPython{launcher, config.Runtime.Python}
	if err := os.Chmod(filepath.Join(config.Code, "handler.py"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := startWith(t, config)
	if f := w.LoadFailure(); f != nil {
		t.Fatalf("%s: %s\n%s", f.Code, f.Message, f.Traceback)
	}
	return w
}

func TestAWorkerServesUnderGVisor(t *testing.T) {
	t.Parallel()
	w := underGVisor(t, `
import os, tempfile
calls = 0
def handler(event, context):
    global calls
    calls += 1
    with tempfile.NamedTemporaryFile() as f:
        f.write(b'x' * 1000)
    print('call', calls, os.environ['GREETING'])
    return {'got': event, 'calls': calls, 'shots': context.shots}`)
	for _, want := range []string{`{"got":{"a":1},"calls":1,"shots":512}`, `{"got":{"a":1},"calls":2,"shots":512}`} {
		var log bytes.Buffer
		got := w.Run(t.Context(), call(`{"a": 1}`), &log)
		if got.Status != warpket.Succeeded || string(got.Result) != want || !strings.HasPrefix(log.String(), "call ") {
			t.Errorf("%s %s %+v, log %q", got.Status, got.Result, got.Failure, &log)
		}
	}
	if !w.Alive() {
		t.Error("it has ended")
	}
}

func TestAWorkerUnderGVisorEndsAsAnyOther(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code, message string
		status        warpket.Status
		failure       warpket.FailureCode
		timeout       time.Duration
		alive         bool
	}{
		"an exception": {
			code: "def handler():\n    raise ValueError('no such angle')", status: warpket.Failed, failure: warpket.Raised, message: "ValueError: no such angle", alive: true,
		},
		"an exit": {
			code: "import os\ndef handler():\n    os._exit(7)", status: warpket.Failed, failure: warpket.Exited, message: "exit code 7",
		},
		"a signal": {
			code: "import os, signal\ndef handler():\n    os.kill(os.getpid(), signal.SIGSEGV)", status: warpket.Failed, failure: warpket.Crashed, message: "SIGSEGV",
		},
		"a control stream that is closed": {
			code: "import os, time\ndef handler():\n    os.close(4)\n    time.sleep(60)", status: warpket.Failed, failure: warpket.Exited, message: "closed the worker's control stream",
		},
		"a late run": {
			code: "import time\ndef handler():\n    time.sleep(60)", status: warpket.TimedOut, failure: warpket.TimedOutCode, message: "ran longer than its timeout of 0.2 s", timeout: 200 * time.Millisecond,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := underGVisor(t, test.code)
			c := call("")
			if test.timeout > 0 {
				c.Timeout = test.timeout
			}
			var log bytes.Buffer
			got := w.Run(t.Context(), c, &log)
			if got.Status != test.status {
				t.Fatalf("%s %s %+v, log %q", got.Status, got.Result, got.Failure, &log)
			}
			checkFailure(t, got.Failure, test.failure, test.message)
			if w.Alive() != test.alive {
				t.Errorf("alive %v", w.Alive())
			}
		})
	}
}
