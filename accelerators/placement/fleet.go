package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warpket/warpket"
)

// Fleet is the nodes of a cluster as placement sees them. It is kept current by
// Set, Take and Give, and is not safe for use by several at a time.
//
// Nodes that are alike in all that placement asks of them are looked at once:
// in a fleet of 10,000 there are some hundred kinds.
type Fleet struct {
	nodes []*node // replaced, never written, so that clones may share them
	index map[warpket.ID]int
	kinds map[string]int // numbers of the kinds of nodes
	alike map[state]*group
	mix   Mix
	kept  []int // nodes that are closed, see Fill

	declared int // devices that are simulated
}

// group is nodes that are alike.
type group struct {
	nodes    []int32 // indexes, in order
	verdicts []verdict
}

// verdict is what a slot of some shape would cost on the nodes of a group; by the
// number of the shape, see Fill.
type verdict struct {
	known, fits bool
	cost        float64
}

// state is all that placement asks of a node, but for who it is.
type state struct {
	kind           int // the number of what does not change while it is up
	live, cordoned bool
	cpuFree        int
	memoryFree     int64
	devices        string // which of them are free
}

// node is what placement needs of a warpket.Node, counted once.
type node struct {
	id         warpket.ID
	name       string
	platform   string
	pythons    []string
	images     bool
	noEgress   bool
	isolation  warpket.Isolation
	labels     map[string]string
	live       bool
	cordoned   bool
	cpu        int
	cpuFree    int
	memory     int64
	memoryFree int64
	devices    []device    // GPUs and slices of GPUs, those with little memory first
	held       []bool      // which of them; replaced, never written, as copies of the node share it
	whole      int         // GPUs that are free
	wholes     int         // GPUs that could be, were nothing leased
	simulators []simulator // those with little memory first; replaced, never written, as held
	kind       int         // see state
	state      state
}

type device struct {
	id         string
	model      string
	memory     int64
	capability int // see warpket.VersionNumber
	cuda       int
	versions   string // both in words
	profile    string // of a slice; empty for a whole GPU
	fault      string
	simulated  bool
}

// simulator is one that a node has. A slot holds one that is only declared, with
// its cores and memory, as it holds a GPU; the real one is the node's own cores
// and memory, which slots share.
type simulator struct {
	id        string
	methods   []string
	cpu       int
	memory    int64
	simulated bool
	fault     string
	held      bool
}

// New makes a Fleet of nodes.
func New(nodes []warpket.Node) *Fleet {
	f := &Fleet{index: make(map[warpket.ID]int, len(nodes)), kinds: map[string]int{}, alike: map[state]*group{}, mix: NewMix()}
	for i := range nodes {
		f.Set(nodes[i])
	}
	return f
}

// Clone makes a Fleet that changes by itself from here on.
func (f *Fleet) Clone() *Fleet {
	c := &Fleet{nodes: slices.Clone(f.nodes), index: f.index, kinds: f.kinds, alike: make(map[state]*group, len(f.alike)), mix: f.mix, kept: slices.Clone(f.kept), declared: f.declared}
	for s, g := range f.alike {
		c.alike[s] = &group{nodes: slices.Clone(g.nodes)}
	}
	return c
}

// Set adds a node, or replaces what was known of it. A clone only ever gets
// nodes that it has.
func (f *Fleet) Set(from warpket.Node) {
	n := newNode(from)
	n.kind = f.kindOf(n.describe())
	i, known := f.index[n.id]
	if known {
		f.leave(i)
		f.declared -= f.nodes[i].declares()
		f.nodes[i] = n
	} else {
		i = len(f.nodes)
		f.nodes = append(f.nodes, n)
		f.index[n.id] = i
	}
	f.declared += n.declares()
	f.enter(i)
}

// kindOf numbers the kinds: they are long, and compared often.
func (f *Fleet) kindOf(description string) int {
	kind, known := f.kinds[description]
	if !known {
		kind = len(f.kinds)
		f.kinds[description] = kind
	}
	return kind
}

// declares counts the node's devices that are simulated.
func (n *node) declares() (count int) {
	for i := range n.devices {
		if n.devices[i].simulated {
			count++
		}
	}
	for i := range n.simulators {
		if n.simulators[i].simulated {
			count++
		}
	}
	return count
}

func newNode(from warpket.Node) *node {
	has := from.Inventory
	n := &node{
		id: from.ID, name: from.Name, platform: has.Platform, pythons: has.Pythons, images: has.Images, noEgress: has.NoEgress, isolation: has.Isolation, labels: from.Labels, live: from.Live, cordoned: from.Cordoned,
		cpu: has.CPU, cpuFree: has.CPU - from.CPULeased, memory: has.Memory, memoryFree: has.Memory - from.MemoryLeased,
	}
	faults := map[string]string{}
	for _, d := range has.Devices {
		faults[d.ID] = d.Fault
	}
	for _, d := range has.Devices {
		switch {
		case d.Kind == warpket.QuantumSimulator:
			s := simulator{id: d.ID, methods: d.Methods, cpu: has.CPU, memory: has.Memory}
			if d.Simulated {
				s.cpu, s.memory, s.simulated, s.fault, s.held = 1000*d.Cores, d.Memory, true, d.Fault, slices.Contains(from.DevicesLeased, d.ID)
			}
			n.simulators = append(n.simulators, s)
		case d.MIGEnabled: // its slices are leased, it is not
		default:
			n.devices = append(n.devices, device{
				id: d.ID, model: d.Name, memory: d.Memory, capability: warpket.VersionNumber(d.ComputeCapability), cuda: warpket.VersionNumber(d.CUDAVersion),
				profile: d.MIGProfile, fault: cmp.Or(d.Fault, faults[d.ParentID]), simulated: d.Simulated, versions: d.ComputeCapability + ", CUDA " + d.CUDAVersion,
			})
		}
	}
	slices.SortFunc(n.devices, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.memory, b.memory), strings.Compare(a.model, b.model), strings.Compare(a.profile, b.profile), strings.Compare(a.versions, b.versions), strings.Compare(a.id, b.id))
	})
	slices.SortStableFunc(n.simulators, func(a, b simulator) int {
		return cmp.Or(cmp.Compare(a.memory, b.memory), strings.Compare(a.id, b.id))
	})
	n.held = make([]bool, len(n.devices))
	for i, d := range n.devices {
		n.held[i] = slices.Contains(from.DevicesLeased, d.id)
	}
	n.count()
	return n
}

// count counts whole GPUs.
func (n *node) count() {
	n.whole, n.wholes = 0, 0
	for i := range n.devices {
		if d := &n.devices[i]; d.profile == "" {
			n.wholes++
			if d.fault == "" && !n.held[i] {
				n.whole++
			}
		}
	}
}

// hold marks devices as held or free.
func (n *node) hold(ids []string, held bool) {
	if len(ids) == 0 {
		return
	}
	n.held = slices.Clone(n.held)
	for i := range n.devices {
		if slices.Contains(ids, n.devices[i].id) {
			n.held[i] = held
		}
	}
	n.simulators = slices.Clone(n.simulators)
	for i := range n.simulators {
		if s := &n.simulators[i]; s.simulated && slices.Contains(ids, s.id) {
			s.held = held
		}
	}
	n.count()
}

// Take counts a slot on a node.
func (f *Fleet) Take(id warpket.ID, r warpket.Resources, devices []string) {
	f.change(id, func(n *node) { n.take(r, devices) })
}

// Give takes back what Take has counted.
func (f *Fleet) Give(id warpket.ID, r warpket.Resources, devices []string) {
	f.change(id, func(n *node) { n.give(r, devices) })
}

func (n *node) take(r warpket.Resources, devices []string) {
	cpu, memory := r.OfNode(devices)
	n.cpuFree -= cpu
	n.memoryFree -= memory
	n.hold(devices, true)
}

func (n *node) give(r warpket.Resources, devices []string) {
	cpu, memory := r.OfNode(devices)
	n.cpuFree += cpu
	n.memoryFree += memory
	n.hold(devices, false)
}

func (f *Fleet) change(id warpket.ID, change func(*node)) {
	if i, ok := f.index[id]; ok {
		f.changeAt(i, change)
	}
}

func (f *Fleet) changeAt(i int, change func(*node)) {
	f.leave(i)
	n := *f.nodes[i]
	change(&n)
	f.nodes[i] = &n
	f.enter(i)
}

func (f *Fleet) enter(i int) {
	n := f.nodes[i]
	n.state = n.now()
	g := f.alike[n.state]
	if g == nil {
		g = &group{}
		f.alike[n.state] = g
	}
	at, _ := slices.BinarySearch(g.nodes, int32(i)) //nolint:gosec // the number of a node
	g.nodes = slices.Insert(g.nodes, at, int32(i))  //nolint:gosec // the number of a node
}

func (f *Fleet) leave(i int) {
	s := f.nodes[i].state
	g := f.alike[s]
	at, _ := slices.BinarySearch(g.nodes, int32(i)) //nolint:gosec // the number of a node
	if g.nodes = slices.Delete(g.nodes, at, at+1); len(g.nodes) == 0 {
		delete(f.alike, s)
	}
}

func (n *node) now() state {
	free := make([]byte, 0, 8)
	count := byte(0)
	for i := range n.devices {
		if i > 0 && !n.devices[i].like(&n.devices[i-1]) {
			free, count = append(free, count), 0
		}
		if !n.held[i] && n.devices[i].fault == "" {
			count++
		}
	}
	for i := range n.simulators {
		if s := &n.simulators[i]; s.simulated {
			free, count = append(free, count), 0
			if !s.held && s.fault == "" {
				count++
			}
		}
	}
	return state{n.kind, n.live, n.cordoned, n.cpuFree, n.memoryFree, string(append(free, count))}
}

// like reports whether two devices differ by their IDs only.
func (d *device) like(other *device) bool {
	return d.memory == other.memory && d.model == other.model && d.capability == other.capability && d.cuda == other.cuda && d.profile == other.profile && d.simulated == other.simulated
}

// describe is a node's kind, see state.
func (n *node) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %v %v %q %d %d", n.platform, n.pythons, n.images, n.noEgress, n.isolation, n.cpu, n.memory)
	for _, k := range slices.Sorted(maps.Keys(n.labels)) {
		fmt.Fprintf(&b, " %q=%q", k, n.labels[k])
	}
	for i := range n.devices {
		d := &n.devices[i]
		fmt.Fprintf(&b, " %q %d %d %d %q %v", d.model, d.memory, d.capability, d.cuda, d.profile, d.simulated)
	}
	for i := range n.simulators {
		s := &n.simulators[i]
		fmt.Fprintf(&b, " %q %d %d %v", s.methods, s.cpu, s.memory, s.simulated)
	}
	return b.String()
}

// Renew makes a Fleet of nodes that goes on with what f has observed, if there
// is one.
func (f *Fleet) Renew(nodes []warpket.Node) *Fleet {
	n := New(nodes)
	if f != nil {
		n.mix = f.mix
	}
	return n
}
