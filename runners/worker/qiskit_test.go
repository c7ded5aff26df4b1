package worker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/runtimes/runtimestest"
	"github.com/warpket/warpket/runners/worker"
)

var releases = map[string]time.Time{ // with the dates that their locks reach to
	"0.45.3": time.Date(2024, 2, 22, 0, 0, 0, 0, time.UTC),
	"2.6.2":  time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
}

func TestQiskit(t *testing.T) {
	t.Parallel()
	for version, until := range releases {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			env := qiskit(t, version, until)
			t.Run("the template's Bell has 1024 counts, the same for the same seed", func(t *testing.T) {
				t.Parallel()
				testBell(t, env, version)
			})
			t.Run("results of the SDK are encoded", func(t *testing.T) {
				t.Parallel()
				testEncoding(t, env, version)
			})
		})
	}
}

func testBell(t *testing.T, env runtimes.Env, version string) {
	code, err := os.ReadFile("../../templates/builtin/qiskit/files/handler.py")
	if err != nil {
		t.Fatal(err)
	}
	w := startQiskit(t, string(code), env, version)
	run := func(seed int64) map[string]int {
		c := call("")
		c.Shots, c.Seed = 1024, seed
		got := w.Run(t.Context(), c, nil)
		if got.Status != warpket.Succeeded {
			t.Fatalf("%+v", got.Failure)
		}
		t.Logf("ran %s", got.Ran)
		var result struct{ Counts map[string]int }
		if err := json.Unmarshal(got.Result, &result); err != nil {
			t.Fatal(err)
		}
		if n := result.Counts; len(n) != 2 || n["00"]+n["11"] != 1024 {
			t.Errorf("counts %v", n)
		}
		return result.Counts
	}
	first, again, other := run(7), run(7), run(8)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same seed gave other counts: %s", diff)
	}
	if cmp.Equal(first, other) {
		t.Error("another seed gave the same counts")
	}
}

// encoding returns one of each kind of value that needs numpy or Qiskit.
const encoding = `
import base64, io
import numpy as np
from qiskit import QuantumCircuit, qpy
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector

def handler(event, context):
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    again = context.backend().run(context.transpile(circuit), shots=10).result()
    small = QuantumCircuit(1)
    small.h(0)
    seeds = [context.backend().run(context.transpile(two()), shots=100).result().get_counts() for _ in range(2)]
    values = {
        "scalars": [np.float32(1.5), np.int64(3), np.bool_(True), np.str_("s"), np.float64("nan"), np.longdouble(2)],
        "array": np.eye(2, dtype=int),
        "large": np.zeros(2000),
        "complex": np.array([1 + 1j]),
        "keys": {np.int64(1): np.str_("a")},
        "result": again,
        "counts": again.get_counts(),
        "circuit": circuit,
        "operator": SparsePauliOp(["ZZ", "XX"], [1, 2]),
        "statevector": Statevector(small),
        "matrix": Operator(small),
        "independent": seeds[0] != seeds[1],
        "random": [int(v) for v in np.random.randint(0, 100, 3)],
    }
    try:
        from qiskit.primitives import StatevectorSampler
        values["sampled"] = StatevectorSampler(seed=1).run([circuit], shots=10).result()
    except ImportError:
        pass
    return values

def two():
    circuit = QuantumCircuit(6, 6)
    circuit.h(range(6))
    circuit.measure(range(6), range(6))
    return circuit
`

func testEncoding(t *testing.T, env runtimes.Env, version string) {
	w := startQiskit(t, encoding, env, version)
	got := w.Run(t.Context(), call(""), nil)
	if got.Status != warpket.Succeeded {
		t.Fatalf("%+v", got.Failure)
	}
	var result map[string]any
	if err := json.Unmarshal(got.Result, &result); err != nil {
		t.Fatal(err)
	}
	one := map[string]any{"__type__": "complex", "re": 1.0, "im": 0.0}
	two := map[string]any{"__type__": "complex", "re": 2.0, "im": 0.0}
	want := map[string]any{
		"scalars":     []any{1.5, 3.0, true, "s", map[string]any{"__type__": "float", "value": "nan"}, 2.0},
		"array":       []any{[]any{1.0, 0.0}, []any{0.0, 1.0}},
		"keys":        map[string]any{"1": "a"},
		"result":      map[string]any{"counts": map[string]any{"1": 10.0}, "success": true},
		"counts":      map[string]any{"1": 10.0},
		"operator":    map[string]any{"__type__": "qiskit.SparsePauliOp", "paulis": []any{"ZZ", "XX"}, "coeffs": []any{one, two}},
		"independent": true,
		"random":      []any{44.0, 47.0, 64.0}, // numpy's first of seed 0
	}
	for name, value := range want {
		if diff := cmp.Diff(value, result[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	types := map[string]string{
		"large": "ndarray", "complex": "ndarray", "circuit": "qiskit.QuantumCircuit",
		"statevector": "qiskit.Statevector", "matrix": "qiskit.Operator",
	}
	for name, want := range types {
		if value, ok := result[name].(map[string]any); !ok || value["__type__"] != want {
			t.Errorf("%s is %v, want a %s", name, result[name], want)
		}
	}
	if sampled, ok := result["sampled"].([]any); ok {
		want := []any{map[string]any{
			"data":     map[string]any{"c": map[string]any{"counts": map[string]any{"1": 10.0}, "num_shots": 10.0, "num_bits": 1.0}},
			"metadata": map[string]any{"shots": 10.0, "circuit_metadata": map[string]any{}},
		}}
		if diff := cmp.Diff(want, sampled); diff != "" {
			t.Errorf("sampled: %s", diff)
		}
	} else if version != "0.45.3" {
		t.Error("nothing was sampled")
	}
}

func BenchmarkWarmBell(b *testing.B) {
	code, err := os.ReadFile("../../templates/builtin/qiskit/files/handler.py")
	if err != nil {
		b.Fatal(err)
	}
	for version, until := range releases {
		env := qiskit(b, version, until)
		b.Run(version, func(b *testing.B) {
			w := startQiskit(b, string(code), env, version)
			for b.Loop() {
				if got := w.Run(b.Context(), call(""), nil); got.Status != warpket.Succeeded {
					b.Fatal(got.Failure)
				}
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	for version, until := range releases {
		env := qiskit(b, version, until)
		b.Run(version, func(b *testing.B) {
			for b.Loop() {
				config := configFor(b, "from qiskit import QuantumCircuit\nimport qiskit_aer\ndef handler(event):\n    return event")
				config.Runtime = env
				w, err := worker.Start(b.Context(), config)
				if err != nil || w.LoadFailure() != nil {
					b.Fatal(err)
				}
				_ = w.Close()
			}
		})
	}
}

func startQiskit(t testing.TB, code string, env runtimes.Env, version string) *worker.Worker {
	t.Helper()
	config := configFor(t, code)
	config.Runtime, config.SDK, config.SDKVersion = env, "qiskit", version
	config.Resources.CPU = 1000
	w := startWith(t, config)
	if f := w.LoadFailure(); f != nil {
		t.Fatalf("%s: %s\n%s", f.Code, f.Message, f.Traceback)
	}
	return w
}

const smoke = `from qiskit import QuantumCircuit, transpile
from qiskit_aer import AerSimulator
circuit = QuantumCircuit(1)
circuit.measure_all()
assert AerSimulator().run(transpile(circuit, AerSimulator()), shots=8).result().get_counts() == {"0": 8}`

// qiskit gives an environment of a release, kept for the next time.
func qiskit(t testing.TB, version string, until time.Time) runtimes.Env {
	t.Helper()
	store, pythons := runtimestest.Shared(t)
	minor := pythons[len(pythons)-1].Minor // the oldest: old releases lack wheels for new ones
	key := runtimestest.Key("qiskit", version, minor)
	progress := func(line string) { t.Log(line) }
	lock := cachedLock(t, filepath.Join(runtimestest.Cache(t), "qiskit-"+version+"-"+minor+".lock"), func() (string, error) {
		return store.Lock(t.Context(), runtimes.LockSpec{
			Key: key, Packages: map[string]string{"qiskit": "==" + version, "qiskit-aer": ""}, Until: until,
		}, progress)
	})
	env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: key, Lock: lock, Smoke: smoke}, progress)
	runtimestest.Needs(t, err)
	return env
}

func cachedLock(t testing.TB, path string, lock func() (string, error)) string {
	t.Helper()
	if content, err := os.ReadFile(path); err == nil {
		return string(content)
	}
	text, err := lock()
	runtimestest.Needs(t, err)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return text
}
