package placement

import "github.com/warpket/warpket"

// Mix is which shapes of requests there are, and how often. A node's free GPUs
// that no room of the node's cores and memory, or too few of them, lets a
// shape have are stranded for it; the mean over the mix measures how fragmented
// the node is. This is the measure of Weng et al., "Beware of Fragmentation:
// Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX
// ATC 2023), for GPUs that are held alone.
type Mix [5]Shape

// Shape is one shape of requests.
type Shape struct {
	Weight float64 // how often, relative to the others
	GPUs   int
	CPU    float64 // thousandths of a core, the mean
	Memory float64 // bytes, the mean
}

// NewMix is what is taken to be asked for until more is known: the shares and
// medians of the trace that the paper published.
func NewMix() Mix {
	return Mix{
		{Weight: 85.8, GPUs: 1, CPU: 8000, Memory: 32 << 30},
		{Weight: 0.2, GPUs: 2, CPU: 16000, Memory: 64 << 30},
		{Weight: 0.2, GPUs: 4, CPU: 32000, Memory: 128 << 30},
		{Weight: 0.5, GPUs: 8, CPU: 88000, Memory: 320 << 30},
		{Weight: 0, GPUs: 16, CPU: 176000, Memory: 640 << 30},
	}
}

// learned is the share that one more request has of a shape's means, and of all
// weights.
const learned = 1.0 / 1024

// Observe counts a request, so that placement keeps room for its like.
func (f *Fleet) Observe(r warpket.Resources) {
	if r.GPUs == 0 || r.MIGProfile != "" {
		return
	}
	like := 0
	for like < len(f.mix)-1 && f.mix[like].GPUs < r.GPUs {
		like++
	}
	total := 0.0
	for i := range f.mix {
		total += f.mix[i].Weight
	}
	for i := range f.mix {
		f.mix[i].Weight *= 1 - learned
	}
	s := &f.mix[like]
	s.Weight += total * learned
	s.CPU += (float64(r.CPU) - s.CPU) * learned
	s.Memory += (float64(r.Memory) - s.Memory) * learned
}

// Stranded is the mean number of so many free GPUs that cannot be had by what
// is likely to be asked for.
func (m *Mix) Stranded(gpus, cpu int, memory int64) float64 {
	if gpus <= 0 {
		return 0
	}
	lost, total := 0.0, 0.0
	for i := range m {
		s := &m[i]
		total += s.Weight
		if s.GPUs > gpus || s.CPU > float64(cpu) || s.Memory > float64(memory) {
			lost += s.Weight
		}
	}
	return float64(gpus) * lost / total
}

// Stranded is how many free GPUs of the fleet are stranded for what is likely
// to be asked for, and how many are free.
func (f *Fleet) Stranded() (stranded float64, free int) {
	for i := range f.nodes {
		n := f.nodes[i]
		stranded += f.mix.Stranded(n.whole, n.cpuFree, n.memoryFree)
		free += n.whole
	}
	return stranded, free
}
