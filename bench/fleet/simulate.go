package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// result is how a policy did at one load.
type result struct {
	Policy      string
	PerSecond   float64 // decisions
	P50, P99    time.Duration
	Turn50      time.Duration // of a decision while as much waits as is looked at; the product's only
	Turn99      time.Duration
	Utilisation float64 // GPUs in use, the mean over the second half
	Stranded    float64 // share of free GPUs that is stranded, the same
	Jain        float64 // of what projects had beside their fair shares, the same
	WaitMean    time.Duration
	WaitP99     time.Duration
	WaitMax     time.Duration
	LargeP99    time.Duration // wait of tasks of 8 GPUs
	Starved     int           // tasks that waited for longer than patience
	Placed      int
	Waiting     int // at the end
}

// patience is how long a task may wait that is counted as not starved.
const patience = 30 * time.Minute

// step is how often the fleet is looked at.
const step = 10 * time.Second

// simulate fills a fleet and then lets tasks come and go. All policies get the
// same tasks.
func simulate(c config, load float64, p policy) result {
	random := rand.New(rand.NewPCG(c.seed, uint64(load*1000))) //nolint:gosec // a simulation
	perTask, _ := demand()
	rate := load * float64(c.nodes*nodeGPUs) / perTask // tasks a second
	weights := make([]float64, len(classes))
	for i, class := range classes {
		weights[i] = class.share * class.meanRun()
	}
	next := 0
	newTask := func(class int, at, runs time.Duration) *task {
		next++
		return &task{id: next, class: class, project: pick(random, c.projects, demandOf), at: at, runs: runs}
	}
	var ends endings
	s := stats{c: c, use: make([]float64, c.projects), now: make([]int, c.projects)}
	start := func(t *task, now time.Duration) {
		heap.Push(&ends, ending{now + t.runs, t})
		s.started(t, now)
	}
	// What runs at a moment, or as much of it as there is room for.
	running := int(rate * sum(weights) * min(1, 1/load))
	var waiting []*task
	for range running {
		class := pick(random, len(classes), func(i int) float64 { return weights[i] })
		if t := newTask(class, 0, classes[class].running(random)); p.place(t) {
			start(t, 0)
		} else {
			waiting = append(waiting, t)
		}
	}
	*p.decisions() = nil
	s.waits, s.large = nil, nil
	end := time.Duration(c.hours * float64(time.Hour))
	for now := step; now <= end; now += step {
		for len(ends) > 0 && ends[0].at <= now {
			e, _ := heap.Pop(&ends).(ending)
			p.end(e.task)
			s.ended(e.task)
		}
		waiting = settle(p, waiting, now, start)
		for range poisson(random, rate*step.Seconds()) {
			class := pick(random, len(classes), func(i int) float64 { return classes[i].share })
			t := newTask(class, now, classes[class].run(random))
			if blocked(waiting, t) || !p.place(t) {
				waiting = append(waiting, t)
			} else {
				start(t, now)
			}
		}
		if now > end/2 {
			s.sample(p)
		}
	}
	return s.result(p, load, waiting, end)
}

// settle gives those that wait their turn.
func settle(p policy, waiting []*task, now time.Duration, start func(*task, time.Duration)) []*task {
	if len(waiting) == 0 {
		return waiting
	}
	before := slices.Clone(waiting)
	left := p.fill(waiting, now)
	still := make(map[*task]bool, len(left))
	for _, t := range left {
		still[t] = true
	}
	for _, t := range before {
		if !still[t] {
			start(t, now)
		}
	}
	return left
}

// blocked reports whether something of the same shape waits already: then there
// is no place, and none is looked for.
func blocked(waiting []*task, t *task) bool {
	for i := len(waiting) - 1; i >= 0 && i >= len(waiting)-200; i-- {
		if waiting[i].class == t.class {
			return true
		}
	}
	return false
}

// stats are what is measured while tasks run.
type stats struct {
	c        config
	waits    []time.Duration
	large    []time.Duration
	now      []int     // GPUs of each project
	use      []float64 // the sum over samples
	stranded float64
	free     float64
	samples  int
}

func (s *stats) started(t *task, now time.Duration) {
	s.now[t.project] += classes[t.class].gpus
	s.waits = append(s.waits, now-t.at)
	if classes[t.class].gpus == nodeGPUs {
		s.large = append(s.large, now-t.at)
	}
}

func (s *stats) ended(t *task) { s.now[t.project] -= classes[t.class].gpus }

func (s *stats) sample(p policy) {
	s.samples++
	for i, gpus := range s.now {
		s.use[i] += float64(gpus)
	}
	stranded, free := p.stranded()
	s.stranded += stranded
	s.free += float64(free)
}

func (s *stats) result(p policy, load float64, waiting []*task, end time.Duration) result {
	total := float64(s.c.nodes * nodeGPUs)
	r := result{
		Placed: len(s.waits), Waiting: len(waiting), Utilisation: sum(s.use) / float64(s.samples) / total, Stranded: s.stranded / max(s.free, 1),
	}
	for _, t := range waiting { // who still waits has waited so long at least
		s.waits = append(s.waits, end-t.at)
		if classes[t.class].gpus == nodeGPUs {
			s.large = append(s.large, end-t.at)
		}
	}
	for _, w := range s.waits {
		if w > patience {
			r.Starved++
		}
		r.WaitMean += w
		r.WaitMax = max(r.WaitMax, w)
	}
	r.WaitMean /= time.Duration(max(len(s.waits), 1))
	r.WaitP99, r.LargeP99 = quantile(s.waits, 0.99), quantile(s.large, 0.99)
	fair := fairShares(s.c.projects, load*total, total)
	got := make([]float64, s.c.projects)
	for i := range got {
		got[i] = s.use[i] / float64(s.samples) / fair[i]
	}
	r.Jain = jain(got)
	took := *p.decisions()
	r.P50, r.P99 = quantile(took, 0.5), quantile(took, 0.99)
	all := time.Duration(0)
	for _, d := range took {
		all += d
	}
	r.PerSecond = float64(len(took)) / max(all.Seconds(), 1e-9)
	return r
}

// fairShares is what each project gets when no project gets more than it asks
// for, and none less than another that asks for more.
func fairShares(projects int, asked, has float64) []float64 {
	weight := 0.0
	for i := range projects {
		weight += demandOf(i)
	}
	shares := make([]float64, projects)
	left := min(asked, has)
	for i := projects - 1; i >= 0; i-- { // from the least
		shares[i] = min(asked*demandOf(i)/weight, left/float64(i+1))
		left -= shares[i]
	}
	return shares
}

// jain is Jain's index of fairness: 1 when all have the same, 1/n when one has all.
func jain(x []float64) float64 {
	squares := 0.0
	for _, v := range x {
		squares += v * v
	}
	return sum(x) * sum(x) / (float64(len(x)) * squares)
}

func sum(x []float64) (total float64) {
	for _, v := range x {
		total += v
	}
	return total
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func halved(passed time.Duration) float64 {
	return math.Exp2(-passed.Seconds() / halfLife.Seconds())
}

// poisson draws how many come, for a mean that may be large.
func poisson(random *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	n, product, limit := 0, random.Float64(), math.Exp(-mean)
	for product > limit {
		n++
		product *= random.Float64()
	}
	return n
}

// ending is when a task ends.
type ending struct {
	at   time.Duration
	task *task
}

type endings []ending

func (e endings) Len() int { return len(e) }
func (e endings) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].task.id < e[j].task.id
}
func (e endings) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any) {
	v, _ := x.(ending)
	*e = append(*e, v)
}

func (e *endings) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}
