package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// class is one shape of tasks. Shares, medians, and the mean and deviation of
// the logarithm of run times in seconds are those of the 8,152 tasks that
// Alibaba has published with Weng et al., "Beware of Fragmentation: Scheduling
// GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX ATC 2023;
// cluster-trace-gpu-v2023). Tasks that share a GPU there hold one alone here.
type class struct {
	share  float64 // of all tasks
	gpus   int
	cpu    int   // thousandths of a core, median
	memory int64 // MiB, median
	mu     float64
	sigma  float64
}

var classes = []class{
	{0.1335, 0, 12500, 51200, 6.46, 1.74},
	{0.3776, 1, 4000, 15258, 6.07, 2.04}, // a part of a GPU
	{0.4798, 1, 11400, 48128, 6.48, 1.88},
	{0.0020, 2, 16200, 66560, 7.45, 2.53},
	{0.0018, 4, 32200, 132096, 5.94, 2.59},
	{0.0054, 8, 88000, 327680, 7.51, 2.68},
}

// A node of the trace with 8 GPUs.
const (
	nodeGPUs   = 8
	nodeCPU    = 96_000
	nodeMemory = 768 << 30
)

// longest is the longest run: run times have a long tail, and a slot may be held
// for a day at most.
const longest = 4 * time.Hour

// task is one slot that is asked for.
type task struct {
	id      int
	class   int
	project int
	at      time.Duration
	runs    time.Duration
	node    int
	devices []string
}

// meanRun is the mean run time of a class in seconds, the tail cut.
func (c class) meanRun() float64 {
	// E[min(X, L)] of a lognormal X.
	l := math.Log(longest.Seconds())
	normal := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
	return math.Exp(c.mu+c.sigma*c.sigma/2)*normal((l-c.mu-c.sigma*c.sigma)/c.sigma) + longest.Seconds()*(1-normal((l-c.mu)/c.sigma))
}

func (c class) run(random *rand.Rand) time.Duration {
	seconds := math.Exp(c.mu + c.sigma*random.NormFloat64())
	return time.Duration(min(max(seconds, 1), longest.Seconds()) * float64(time.Second))
}

// running is a run that is under way at a moment: the longer ones are more
// likely to be, and a part of it is over.
func (c class) running(random *rand.Rand) time.Duration {
	for {
		if whole := c.run(random); random.Float64() < whole.Seconds()/longest.Seconds() {
			return time.Duration(random.Float64() * float64(whole))
		}
	}
}

// demand is the mean number of GPUs and cores in use for one task a second.
func demand() (gpus, cores float64) {
	for _, c := range classes {
		gpus += c.share * c.meanRun() * float64(c.gpus)
		cores += c.share * c.meanRun() * float64(c.cpu) / 1000
	}
	return gpus, cores
}

// pick picks one of several by weight.
func pick(random *rand.Rand, n int, weight func(int) float64) int {
	total := 0.0
	for i := range n {
		total += weight(i)
	}
	at := random.Float64() * total
	for i := range n {
		if at -= weight(i); at < 0 {
			return i
		}
	}
	return n - 1
}

// demandOf is the share of all tasks that a project asks for: a few ask for much.
func demandOf(project int) float64 { return 1 / float64(project+1) }
