package accelerators

import (
	"log/slog"
	"testing"

	"github.com/warpket/warpket"
)

func TestEveryMachineHasASimulator(t *testing.T) {
	t.Parallel()
	m := Probe(slog.New(slog.DiscardHandler))
	last := m.Devices[len(m.Devices)-1]
	if last.Kind != warpket.QuantumSimulator || last.Memory <= 0 || last.Cores <= 0 {
		t.Errorf("the last device is %+v", last)
	}
	if m.CPU < 1000 || m.Memory <= 0 {
		t.Errorf("the machine shares %d thousandths of a core and %d bytes", m.CPU, m.Memory)
	}
}

func TestMaxQubitsCountsSixteenBytesAnAmplitude(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int64]int{16: 0, 32: 1, 16 << 30: 30, 16<<30 - 1: 29, 1 << 40: 36} {
		if got := MaxQubits(memory); got != want {
			t.Errorf("%d bytes hold %d qubits, want %d", memory, got, want)
		}
	}
}
