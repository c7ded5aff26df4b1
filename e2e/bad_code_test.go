package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestBadCodeEndsWithItsOwnError(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	tests := map[string]struct {
		code, status, error, says string
		settings                  object
	}{
		"that does not import":           {"import no_such_module\ndef handler(event, context): pass", "failed", "import_failed", "no_such_module", nil},
		"that is no Python":              {"def handler(:", "failed", "import_failed", "SyntaxError", nil},
		"without the entry":              {"def other(event, context): pass", "failed", "no_entry", "handler", nil},
		"that raises":                    {"def handler(event, context):\n    raise ValueError('no such gate')", "failed", "raised", "ValueError: no such gate", nil},
		"that exits":                     {"import sys\ndef handler(event, context):\n    sys.exit(3)", "failed", "exited", "3", nil},
		"that ends its process":          {"import os\ndef handler(event, context):\n    os._exit(4)", "failed", "exited", "4", nil},
		"that crashes":                   {"import os, signal\ndef handler(event, context):\n    os.kill(os.getpid(), signal.SIGSEGV)", "failed", "crashed", "SIGSEGV", nil},
		"that runs too long":             {"def handler(event, context):\n    while True: pass", "timed_out", "timed_out", "1 s", object{"resources": object{"timeout": 1}}},
		"whose result cannot be encoded": {"def handler(event, context):\n    return {'a': object()}", "failed", "result_not_encodable", "object", nil},
		"that takes other arguments":     {"def handler(theta): return theta", "failed", "bad_arguments", "theta", nil},
		"whose result is too large":      {"def handler(event, context):\n    return 'x' * (65 << 20)", "failed", "result_too_large", "", nil},
	}
	for name, tt := range tests {
		t.Run("code "+name, func(t *testing.T) {
			t.Parallel()
			id := c.python(t, unique("bad"), tt.code, tt.settings)
			e := c.execute(t, id, nil)
			if e.Status != tt.status || e.Error == nil || e.Error.Code != tt.error {
				t.Fatalf("ended %+v, error %+v", e, e.Error)
			}
			if text := e.Error.Message + e.Error.Traceback; !strings.Contains(text, tt.says) {
				t.Errorf("said %q, without %q", text, tt.says)
			}
			if strings.Contains(e.Error.Message, "\n") || len(e.Error.Message) > 500 {
				t.Errorf("the message is not short: %q", e.Error.Message)
			}
			if tt.error == "raised" {
				log := string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body)
				if !strings.Contains(e.Error.Traceback, "handler.py") || !strings.Contains(log, "ValueError") {
					t.Errorf("the traceback is %q, the log %q", e.Error.Traceback, log)
				}
			}
		})
	}
}

func TestAWorkerThatDiedIsReplaced(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("replaced"), "import os\ndef handler(event, context):\n    if event.get('die'): os._exit(1)\n    return 'well'\n", nil)
	for range 3 {
		if e := c.execute(t, id, object{"input": object{"die": true}}); e.Error == nil || e.Error.Code != "exited" {
			t.Fatalf("ended %+v", e)
		}
		if e := c.execute(t, id, nil); string(e.Result) != `"well"` {
			t.Fatalf("after a death: %+v %+v", e, e.Error)
		}
	}
}

func TestAGigabyteOfLogIsCutAndTheExecutionGoesOn(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("talker"), `
def handler(event, context):
    line = "x" * 1023 + "\n"
    for _ in range(1 << 20):
        print(line, end="")
    return "done"
`, nil)
	e := c.execute(t, id, nil)
	if e.Status != "succeeded" || string(e.Result) != `"done"` || e.LogSize != 1<<30 {
		t.Fatalf("ended %+v %+v", e, e.Error)
	}
	log := c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body
	if len(log) > 2<<20 || !strings.Contains(string(log[len(log)-200:]), "log cut") {
		t.Errorf("the log has %d bytes and ends %q", len(log), log[len(log)-100:])
	}
}

func TestLargeInputsAndResultsTravelByReference(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("large"), "def handler(event, context):\n    return event['text'] * 2\n", nil)
	text := strings.Repeat("quantum ", 300_000) // 2.4 MB
	e := c.execute(t, id, object{"input": object{"text": text}})
	if e.Status != "succeeded" || len(e.Result) > 4 || e.ResultURL == "" {
		t.Fatalf("ended %s, result of %d bytes, %q, %+v", e.Status, len(e.Result), e.ResultURL, e.Error)
	}
	if got := string(c.ok(t, "GET", e.ResultURL, nil).body); got != `"`+text+text+`"` {
		t.Errorf("the result has %d bytes", len(got))
	}
}

func TestRetriesAreAttemptsOfTheSameExecution(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("retried"), "def handler(event, context):\n    if context.attempt < 3: raise RuntimeError('not yet')\n    return context.attempt\n", object{"retries": 2})
	e := c.execute(t, id, nil)
	if e.Status != "succeeded" || string(e.Result) != "3" || e.Attempt != 3 {
		t.Fatalf("ended %+v %+v", e, e.Error)
	}
}

func TestEightCallersOfOneFunctionAreAllAnswered(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("busy"), "import time\ndef handler(event, context):\n    time.sleep(0.02)\n    return event['n']\n", nil)
	results := make(chan error)
	for n := range 40 {
		go func() {
			a, err := c.try(t.Context(), "POST", "/v1/executions", object{"functionId": id, "input": object{"n": n}})
			if err == nil {
				if e := as[execution](t, a); string(e.Result) != fmt.Sprint(n) {
					err = fmt.Errorf("call %d ended %s", n, a.body)
				}
			}
			results <- err
		}()
	}
	for range 40 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
