package worker_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

func TestTry(t *testing.T) {
	env := qiskit(t, "2.6.2", releases["2.6.2"])
	code, err := os.ReadFile("../../templates/builtin/qiskit/files/handler.py")
	if err != nil {
		t.Fatal(err)
	}
	l, err := sandbox.NewNamespaces(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config := configFor(t, string(code))
	config.Runtime, config.SDK, config.SDKVersion = env, "qiskit", "2.6.2"
	config.Resources = warpket.DefaultResources
	config.Project = "p"
	config.LoadLog = os.Stderr
	p := worker.NewPool(l, config.Harness, 4<<30, slog.Default())
	defer p.Close()
	for i := range 8 {
		begin := time.Now()
		w, err := p.Start(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if w.LoadFailure() != nil {
			t.Fatal(w.LoadFailure())
		}
		loaded := time.Since(begin)
		for range 5 {
			c := call("")
			c.Shots, c.Seed = 1024, 7
			b := time.Now()
			got := w.Run(t.Context(), c, os.Stderr)
			took := time.Since(b)
			if got.Status != warpket.Succeeded {
				t.Fatalf("%+v", got.Failure)
			}
			var v any
			_ = json.Unmarshal(got.Result, &v)
			t.Log(i, loaded, took, got.Started, got.Ran, got.Usage, v)
		}
		if i%2 == 1 {
			w.Close()
		} else {
			defer w.Close()
		}
		time.Sleep(300 * time.Millisecond)
	}
}
