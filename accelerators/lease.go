//go:build cgo

package accelerators

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/warpket/warpket"
)

// How far apart samples are. The driver has no other way to tell a peak; its own
// counters are no finer than the later ones. Many executions are over in less, so
// there are more in the first second.
const (
	between = 100 * time.Millisecond
	early   = 15 * time.Millisecond
)

// slack is how much more memory may be used on a GPU after a slot than before:
// the driver keeps a little for itself.
const slack = 64 << 20

// lease is the GPUs of a slot, with how they were before it.
type lease struct {
	gpus   *GPUs
	cards  []*gpu
	before []state
}

// state is what is on a GPU: bytes in use, and processes.
type state struct {
	used      int64
	processes map[uint32]bool
}

// Take notes how the GPUs of a slot are before its first program starts.
func (g *GPUs) Take(ids []string) (Lease, error) {
	cards, err := g.find(ids)
	if err != nil {
		return nil, err
	}
	l := &lease{gpus: g, cards: cards}
	for _, c := range cards {
		s, err := c.state()
		if err != nil {
			return nil, warpket.Because(warpket.Unavailable, err, "GPU %s does not answer", c.ID)
		}
		l.before = append(l.before, s)
	}
	return l, nil
}

func (c *gpu) state() (s state, err error) {
	memory, code := c.handle.GetMemoryInfo()
	if err := check(code, "reading its memory"); err != nil {
		return s, err
	}
	s.used, s.processes = int64(memory.Used), map[uint32]bool{} //nolint:gosec // far below 2^63
	processes, code := c.handle.GetComputeRunningProcesses()
	if err := check(code, "listing its processes"); err != nil {
		return s, err
	}
	for _, p := range processes {
		s.processes[p.Pid] = true
	}
	return s, nil
}

// Access is what programs need to reach the slot's GPUs, and no others.
func (l *lease) Access() Access { return l.gpus.access(l.cards) }

// meter measures what one execution uses.
type meter struct {
	*lease
	joules []float64 // counters at the start; NaN where there is none
	last   time.Time
	peak   int64
	busy   time.Duration
}

// Measure samples memory and utilisation until it is stopped. What a process
// takes and gives back between two samples is not seen.
func (l *lease) Measure() (stop func(*warpket.Usage)) {
	m := &meter{lease: l, last: time.Now()}
	for _, c := range l.cards {
		m.joules = append(m.joules, c.energy(l.gpus))
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		m.sample() // of what a worker that is kept has from before
		began := m.last
		tick := time.NewTicker(early)
		defer tick.Stop()
		for often := true; ; {
			select {
			case <-tick.C:
				m.sample()
				if often && time.Since(began) >= time.Second {
					often = false
					tick.Reset(between)
				}
			case <-ended:
				m.sample()
				return
			}
		}
	}()
	var once sync.Once
	return func(u *warpket.Usage) {
		once.Do(func() { close(ended) })
		<-done
		u.GPUMemory, u.GPUSeconds, u.GPUJoules = m.peak, m.busy.Seconds(), 0
		for i, c := range l.cards {
			if used := c.energy(l.gpus) - m.joules[i]; used > 0 {
				u.GPUJoules += used
			}
		}
	}
}

// sample adds the time since the last sample as busy as the GPUs say that they
// are, and keeps the most memory.
func (m *meter) sample() {
	now := time.Now()
	passed := now.Sub(m.last)
	m.last = now
	var memory int64
	for i, c := range m.cards {
		if u, code := c.handle.GetUtilizationRates(); code == nvml.SUCCESS {
			m.busy += passed * time.Duration(min(u.Gpu, 100)) / 100
		}
		memory += c.usedBy(m.before[i])
	}
	m.peak = max(m.peak, memory)
}

// usedBy is how much memory processes have that were not there before. Where the
// driver does not tell of processes, as in a container, it is what is used more
// than before: the slot has the GPU alone.
func (c *gpu) usedBy(before state) (bytes int64) {
	processes, code := c.handle.GetComputeRunningProcesses()
	told := code == nvml.SUCCESS && len(processes) > 0
	for _, p := range processes {
		switch {
		case before.processes[p.Pid]:
		case p.UsedGpuMemory == math.MaxUint64: // not available
			told = false
		default:
			bytes += int64(p.UsedGpuMemory) //nolint:gosec // far below 2^63
		}
	}
	if told {
		return bytes
	}
	memory, code := c.handle.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return 0
	}
	return max(0, int64(memory.Used)-before.used) //nolint:gosec // far below 2^63
}

// energy is what a GPU has used since the driver was loaded, in joules. It is
// not known of slices: they have one counter together.
func (c *gpu) energy(g *GPUs) float64 {
	if c.parent == nil && g.has("nvmlDeviceGetTotalEnergyConsumption") {
		if mj, code := c.handle.GetTotalEnergyConsumption(); code == nvml.SUCCESS {
			return float64(mj) / 1000
		}
	}
	return math.NaN()
}

// Returned waits until nothing of the slot is left on its GPUs. The driver frees
// the memory of a process that was killed a moment after its end.
func (l *lease) Returned(within time.Duration) map[string]string {
	for deadline := time.Now().Add(within); ; time.Sleep(between) { // it tells nobody when it has

		faults := map[string]string{}
		for i, c := range l.cards {
			if left := c.left(l.before[i]); left != "" {
				faults[c.ID] = left
			}
		}
		if len(faults) == 0 {
			return nil
		}
		if !time.Now().Before(deadline) {
			return faults
		}
	}
}

// left says what is on a GPU that was not there before.
func (c *gpu) left(before state) string {
	now, err := c.state()
	if err != nil {
		return err.Error()
	}
	for pid := range now.processes {
		if !before.processes[pid] {
			return fmt.Sprintf("process %d is left of a slot that has ended", pid)
		}
	}
	if more := now.used - before.used; more > slack {
		return fmt.Sprintf("%d MiB are left of a slot that has ended", more>>20)
	}
	return ""
}
