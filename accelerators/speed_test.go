package accelerators

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheMeasuredLoopSimulates(t *testing.T) {
	t.Parallel()
	const qubits = 16 // enough for several cores
	s := newState(qubits)
	for q := range qubits {
		s.hadamard(q, 3)
	}
	for i, a := range s {
		if math.Abs(real(a)-math.Pow(2, -qubits/2.0)) > 1e-12 || imag(a) != 0 {
			t.Fatalf("amplitude %d of the even superposition is %v", i, a)
		}
	}
	for q := range qubits {
		s.hadamard(q, 1)
	}
	if math.Abs(real(s[0])-1) > 1e-12 {
		t.Errorf("a gate twice is not nothing: %v", s[0])
	}
}

func TestSpeedIsMeasuredOnceForAProcessor(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "speed.json")
	first, err := Speed(t.Context(), file, 8<<20<<3) // room for 18 qubits
	if err != nil || len(first) != 4 {
		t.Fatalf("measured %v (%v)", first, err)
	}
	for i, s := range first {
		if s.Qubits != sizes[i] || s.GatesPerSecond <= 0 {
			t.Errorf("measured %+v", s)
		}
	}
	again, err := Speed(t.Context(), file, 8<<30)
	if diff := cmp.Diff(first, again); diff != "" || err != nil {
		t.Errorf("measured again: %s (%v)", diff, err)
	}
	for _, other := range []string{`{"processor":"another","cores":1,"speed":[{"qubits":1,"gatesPerSecond":1}]}`, "{"} {
		if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Speed(t.Context(), file, 1<<20); err != nil || len(got) != 2 || got[0].Qubits != 8 {
			t.Errorf("with %s kept: %v (%v)", other, got, err)
		}
	}
}
