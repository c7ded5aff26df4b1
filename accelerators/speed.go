package accelerators

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/warpket/warpket"
)

// sizes are the numbers of qubits at which a simulator is measured: a state that
// fits into a core's own cache, into one that cores share, and into memory only.
var sizes = []int{8, 12, 16, 18, 20, 22, 24}

// perSize is how long gates are run at each size.
const perSize = 50 * time.Millisecond

// Speed is how fast this machine simulates: single-qubit gates per second on a
// statevector of double precision, by a plain loop on all cores. It compares
// machines, and tells how they slow down when a state outgrows their caches. A
// simulator such as Aer, which fuses gates and uses vector instructions, is
// faster by a factor of its own.
//
// It is measured once and kept in a file; a machine with another processor or
// number of cores is measured anew. Measuring takes about half a second and at
// most an eighth of memory.
func Speed(ctx context.Context, file string, memory int64) ([]warpket.Speed, error) {
	this := measured{Processor: processor(), Cores: runtime.NumCPU()}
	if b, err := os.ReadFile(file); err == nil {
		var kept measured
		if json.Unmarshal(b, &kept) == nil && kept.Processor == this.Processor && kept.Cores == this.Cores && len(kept.Speed) > 0 {
			return kept.Speed, nil
		}
	}
	for _, n := range sizes {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if int64(16)<<n > memory/8 {
			break
		}
		this.Speed = append(this.Speed, warpket.Speed{Qubits: n, GatesPerSecond: gatesPerSecond(n, this.Cores)})
	}
	b, err := json.Marshal(this)
	if err != nil {
		return nil, err
	}
	temporary := file + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return this.Speed, fmt.Errorf("keeping the measured speed: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		return this.Speed, fmt.Errorf("keeping the measured speed: %w", err)
	}
	return this.Speed, nil
}

// measured is what is kept, with what it was measured on.
type measured struct {
	Processor string          `json:"processor"`
	Cores     int             `json:"cores"`
	Speed     []warpket.Speed `json:"speed"`
}

func processor() string {
	b, err := os.ReadFile(filepath.Join("/proc", "cpuinfo"))
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

func gatesPerSecond(qubits, cores int) float64 {
	state := newState(qubits)
	state.hadamard(0, cores) // the pages are there from here on
	begun, gates := time.Now(), 0
	for time.Since(begun) < perSize {
		state.hadamard(gates%qubits, cores)
		gates++
	}
	return math.Round(float64(gates) / time.Since(begun).Seconds())
}

// amplitudes are those of a quantum state.
type amplitudes []complex128

func newState(qubits int) amplitudes {
	s := make(amplitudes, 1<<qubits)
	s[0] = 1
	return s
}

// alone is the size up to which sharing the work costs more than it saves.
const alone = 1 << 14

// hadamard applies a Hadamard gate to one qubit.
func (s amplitudes) hadamard(qubit, cores int) {
	pairs := len(s) / 2
	if len(s) <= alone || cores == 1 {
		s.rotate(qubit, 0, pairs)
		return
	}
	var wg sync.WaitGroup
	for i := range cores {
		wg.Go(func() { s.rotate(qubit, pairs*i/cores, pairs*(i+1)/cores) })
	}
	wg.Wait()
}

// rotate works on the pairs from one to another of amplitudes that differ in one
// qubit only.
func (s amplitudes) rotate(qubit, from, to int) {
	bit := 1 << qubit
	for pair := from; pair < to; pair++ {
		zero := pair&^(bit-1)<<1 | pair&(bit-1)
		a, b := s[zero], s[zero|bit]
		s[zero], s[zero|bit] = complex(math.Sqrt2/2*(real(a)+real(b)), math.Sqrt2/2*(imag(a)+imag(b))), complex(math.Sqrt2/2*(real(a)-real(b)), math.Sqrt2/2*(imag(a)-imag(b)))
	}
}
