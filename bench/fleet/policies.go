package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
)

// policy places tasks.
type policy interface {
	// place finds a place, if there is one.
	place(t *task) bool
	// end gives a task's place back.
	end(t *task)
	// fill places those of the waiting that get a place now, in the policy's
	// order, and gives the rest.
	fill(waiting []*task, now time.Duration) []*task
	// stranded is how many free GPUs are stranded, and how many are free.
	stranded() (float64, int)
	// decisions are how long each decision took.
	decisions() *[]time.Duration
}

// cpuTime is how long this thread has had a processor: what others do meanwhile
// is no part of a decision.
func cpuTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

var policies = []struct {
	name string
	make func(config) policy
}{
	{"warpket", func(c config) policy { return newProduct(c) }},
	{"best fit", func(c config) policy { return newSimple(c, bestFit) }},
	{"first fit", func(c config) policy { return newSimple(c, firstFit) }},
	{"random", func(c config) policy { return newSimple(c, randomFit) }},
}

// product is the product's own placement and order.
type product struct {
	fleet *placement.Fleet
	ids   []warpket.ID
	use   []float64 // charges that projects hold
	past  []float64 // and what is left of those that they have held
	aged  time.Duration
	took  []time.Duration
}

func newProduct(c config) *product {
	nodes := make([]warpket.Node, c.nodes)
	p := &product{ids: make([]warpket.ID, c.nodes), use: make([]float64, c.projects), past: make([]float64, c.projects)}
	for i := range nodes {
		p.ids[i] = warpket.ID(strconv.Itoa(i))
		n := warpket.Node{ID: p.ids[i], Name: fmt.Sprintf("node-%d", i), Live: true, Inventory: warpket.Inventory{Platform: "linux/amd64", CPU: nodeCPU, Memory: nodeMemory}}
		for g := range nodeGPUs {
			n.Inventory.Devices = append(n.Inventory.Devices, warpket.Device{ID: fmt.Sprintf("GPU-%d-%d", i, g), Kind: warpket.NVIDIA, Name: "GPU", Memory: 80 << 30, ComputeCapability: "9.0", CUDAVersion: "13.0"})
		}
		nodes[i] = n
	}
	p.fleet = placement.New(nodes)
	return p
}

func (t *task) resources() warpket.Resources {
	c := classes[t.class]
	return warpket.Resources{CPU: c.cpu, Memory: c.memory << 20, GPUs: c.gpus}
}

func (p *product) place(t *task) bool {
	r := t.resources()
	start := cpuTime()
	d, err := p.fleet.Place(placement.Request{Resources: r, Platform: "linux/amd64"})
	p.took = append(p.took, cpuTime()-start)
	p.fleet.Observe(r)
	if err != nil {
		return false
	}
	p.fleet.Take(d.NodeID, r, d.Devices)
	p.take(t, d)
	return true
}

func (p *product) take(t *task, d placement.Decision) {
	t.node, _ = strconv.Atoi(string(d.NodeID))
	t.devices = d.Devices
	p.use[t.project] += t.resources().Charge()
}

func (p *product) end(t *task) {
	p.fleet.Give(p.ids[t.node], t.resources(), t.devices)
	p.use[t.project] -= t.resources().Charge()
}

// halfLife is the product's, see storage/postgres.
const halfLife = time.Hour

func (p *product) fill(waiting []*task, now time.Duration) []*task {
	// What projects have used fades as it does in the product.
	left := halved(now - p.aged)
	for i := range p.past {
		p.past[i] = p.past[i]*left + p.use[i]*(1-left)
	}
	p.aged = now
	waiters := make([]placement.Waiter, len(waiting))
	byID := make(map[warpket.ID]*task, len(waiting))
	for i, t := range waiting {
		id := warpket.ID(fmt.Sprintf("%09d", t.id))
		byID[id] = t
		waiters[i] = placement.Waiter{
			ID: id, Project: warpket.ID(strconv.Itoa(t.project)), Need: placement.Request{Resources: t.resources(), Platform: "linux/amd64"},
			Use: p.use[t.project] + p.past[t.project], Weight: 1, Waited: now - t.at,
		}
	}
	order := placement.Order(waiters)
	placed := map[*task]bool{}
	start := cpuTime()
	p.fleet.Fill(order, func(i int, d placement.Decision) {
		t := byID[order[i].ID]
		placed[t] = true
		p.take(t, d)
	})
	if n := len(placed); n > 0 { // the time of those that found no place is theirs, too
		each := (cpuTime() - start) / time.Duration(n)
		for range n {
			p.took = append(p.took, each)
		}
	}
	p.fleet.Open()
	return rest(waiting, placed)
}

// most is how many that wait the product looks at, see storage/postgres.
const most = 500

// turns measures what it takes a server to look whether it is the turn of one of
// those that wait, with as many of them as the product looks at, on the fleet as
// it is. Some have waited for so long that a node is kept free for them.
func (p *product) turns(c config) (p50, p99 time.Duration) {
	random := rand.New(rand.NewPCG(c.seed, 7)) //nolint:gosec // a simulation
	waiters := make([]placement.Waiter, most)
	for i := range waiters {
		t := task{class: pick(random, len(classes), func(i int) float64 { return classes[i].share }), project: pick(random, c.projects, demandOf)}
		waiters[i] = placement.Waiter{
			ID: warpket.ID(fmt.Sprintf("%09d", i)), Project: warpket.ID(strconv.Itoa(t.project)), Need: placement.Request{Resources: t.resources(), Platform: "linux/amd64"},
			Use: p.use[t.project] + p.past[t.project], Weight: 1, Waited: time.Duration(random.IntN(600)) * time.Second,
		}
	}
	var took []time.Duration
	for _, w := range waiters {
		start := cpuTime()
		_, _, _ = p.fleet.Turn(waiters, w.ID)
		took = append(took, cpuTime()-start)
	}
	return quantile(took, 0.5), quantile(took, 0.99)
}

func (p *product) stranded() (float64, int)    { return p.fleet.Stranded() }
func (p *product) decisions() *[]time.Duration { return &p.took }

func rest(waiting []*task, placed map[*task]bool) []*task {
	left := waiting[:0]
	for _, t := range waiting {
		if !placed[t] {
			left = append(left, t)
		}
	}
	return left
}

// simple places by one rule, and lets wait in the order of arrival; what does
// not fit holds up nobody.
type simple struct {
	nodes  []machine
	choose func(s *simple, c class) int
	mix    placement.Mix
	random *rand.Rand
	took   []time.Duration
}

type machine struct {
	gpus, cpu int
	memory    int64
}

func newSimple(c config, choose func(*simple, class) int) *simple {
	s := &simple{nodes: make([]machine, c.nodes), choose: choose, mix: placement.NewMix(), random: rand.New(rand.NewPCG(c.seed, 9))} //nolint:gosec // a simulation
	for i := range s.nodes {
		s.nodes[i] = machine{nodeGPUs, nodeCPU, nodeMemory}
	}
	return s
}

func (m machine) fits(c class) bool {
	return m.gpus >= c.gpus && m.cpu >= c.cpu && m.memory >= c.memory<<20
}

func firstFit(s *simple, c class) int {
	for i := range s.nodes {
		if s.nodes[i].fits(c) {
			return i
		}
	}
	return -1
}

// bestFit leaves the least: the sum of the shares of each resource.
func bestFit(s *simple, c class) int {
	best, least := -1, 0.0
	for i := range s.nodes {
		m := &s.nodes[i]
		if !m.fits(c) {
			continue
		}
		left := float64(m.gpus-c.gpus)/nodeGPUs + float64(m.cpu-c.cpu)/nodeCPU + float64(m.memory-c.memory<<20)/nodeMemory
		if best < 0 || left < least {
			best, least = i, left
		}
	}
	return best
}

func randomFit(s *simple, c class) int {
	chosen, seen := -1, 0
	for i := range s.nodes {
		if s.nodes[i].fits(c) {
			if seen++; s.random.IntN(seen) == 0 {
				chosen = i
			}
		}
	}
	return chosen
}

func (s *simple) place(t *task) bool {
	c := classes[t.class]
	start := cpuTime()
	i := s.choose(s, c)
	s.took = append(s.took, cpuTime()-start)
	if i < 0 {
		return false
	}
	m := &s.nodes[i]
	m.gpus, m.cpu, m.memory = m.gpus-c.gpus, m.cpu-c.cpu, m.memory-c.memory<<20
	t.node = i
	return true
}

func (s *simple) end(t *task) {
	c, m := classes[t.class], &s.nodes[t.node]
	m.gpus, m.cpu, m.memory = m.gpus+c.gpus, m.cpu+c.cpu, m.memory+c.memory<<20
}

func (s *simple) fill(waiting []*task, _ time.Duration) []*task {
	placed := map[*task]bool{}
	var failed [16]bool // classes for which there is no place any more
	for _, t := range waiting {
		if failed[t.class] {
			continue
		}
		if s.place(t) {
			placed[t] = true
		} else {
			failed[t.class] = true
		}
	}
	return rest(waiting, placed)
}

func (s *simple) stranded() (stranded float64, free int) {
	for i := range s.nodes {
		m := &s.nodes[i]
		stranded += s.mix.Stranded(m.gpus, m.cpu, m.memory)
		free += m.gpus
	}
	return stranded, free
}

func (s *simple) decisions() *[]time.Duration { return &s.took }
