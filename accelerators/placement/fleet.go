package placement

import (
	"cmp"
	"slices"
	"strings"

	"github.com/warpket/warpket"
)

// Fleet is the nodes of a cluster as placement sees them. It is kept current by
// Set, Take and Give, and is not safe for use by several at a time.
type Fleet struct {
	nodes  []node
	index  map[warpket.ID]int
	byFree [][]int32 // indexes of nodes by how many whole GPUs they have free
	mix    Mix
	kept   []int // nodes that are closed, see Fill
}

// node is what placement needs of a warpket.Node, counted once.
type node struct {
	id         warpket.ID
	name       string
	platform   string
	pythons    []string
	images     bool
	isolation  warpket.Isolation
	labels     map[string]string
	live       bool
	cordoned   bool
	cpu        int
	cpuFree    int
	memory     int64
	memoryFree int64
	devices    []device // GPUs and slices of GPUs, those with little memory first
	held       []bool   // which of them; replaced, never written, so that clones may share it
	whole      int      // GPUs that are free
	wholes     int      // GPUs that could be, were nothing leased
	simulators []simulator
	place      int // in byFree[whole]
}

type device struct {
	id         string
	model      string
	memory     int64
	capability string
	cuda       string
	profile    string // of a slice; empty for a whole GPU
	fault      string
	simulated  bool
}

type simulator struct {
	id      string
	methods []string
}

// New makes a Fleet of nodes.
func New(nodes []warpket.Node) *Fleet {
	f := &Fleet{index: make(map[warpket.ID]int, len(nodes)), mix: NewMix()}
	for i := range nodes {
		f.Set(nodes[i])
	}
	return f
}

// Nodes is how many nodes there are.
func (f *Fleet) Nodes() int { return len(f.nodes) }

// Clone makes a Fleet that changes by itself from here on.
func (f *Fleet) Clone() *Fleet {
	c := &Fleet{nodes: slices.Clone(f.nodes), index: f.index, byFree: make([][]int32, len(f.byFree)), mix: f.mix}
	for i, list := range f.byFree {
		c.byFree[i] = slices.Clone(list)
	}
	return c
}

// Set adds a node, or replaces what was known of it. A clone only ever gets
// nodes that it has.
func (f *Fleet) Set(from warpket.Node) {
	n := newNode(from)
	i, known := f.index[n.id]
	if known {
		f.leave(i)
		f.nodes[i] = n
	} else {
		i = len(f.nodes)
		f.nodes = append(f.nodes, n)
		f.index[n.id] = i
	}
	f.enter(i)
}

// Name is what a node is called.
func (f *Fleet) Name(id warpket.ID) string {
	if i, ok := f.index[id]; ok {
		return f.nodes[i].name
	}
	return string(id)
}

func newNode(from warpket.Node) node {
	has := from.Inventory
	n := node{
		id: from.ID, name: from.Name, platform: has.Platform, pythons: has.Pythons, images: has.Images, isolation: has.Isolation, labels: from.Labels, live: from.Live, cordoned: from.Cordoned,
		cpu: has.CPU, cpuFree: has.CPU - from.CPULeased, memory: has.Memory, memoryFree: has.Memory - from.MemoryLeased,
	}
	faults := map[string]string{}
	for _, d := range has.Devices {
		faults[d.ID] = d.Fault
	}
	for _, d := range has.Devices {
		switch {
		case d.Kind == warpket.QuantumSimulator:
			n.simulators = append(n.simulators, simulator{d.ID, d.Methods})
		case d.MIGEnabled: // its slices are leased, it is not
		default:
			n.devices = append(n.devices, device{
				id: d.ID, model: d.Name, memory: d.Memory, capability: d.ComputeCapability, cuda: d.CUDAVersion,
				profile: d.MIGProfile, fault: cmp.Or(d.Fault, faults[d.ParentID]), simulated: d.Simulated,
			})
		}
	}
	slices.SortFunc(n.devices, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.memory, b.memory), strings.Compare(a.model, b.model), strings.Compare(a.id, b.id))
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
	n.count()
}

// Take counts a slot on a node.
func (f *Fleet) Take(id warpket.ID, r warpket.Resources, devices []string) {
	f.change(id, func(n *node) {
		n.cpuFree -= r.CPU
		n.memoryFree -= r.Memory
		n.hold(devices, true)
	})
}

// Give takes back what Take has counted.
func (f *Fleet) Give(id warpket.ID, r warpket.Resources, devices []string) {
	f.change(id, func(n *node) {
		n.cpuFree += r.CPU
		n.memoryFree += r.Memory
		n.hold(devices, false)
	})
}

func (f *Fleet) change(id warpket.ID, change func(*node)) {
	i, ok := f.index[id]
	if !ok {
		return
	}
	f.leave(i)
	change(&f.nodes[i])
	f.enter(i)
}

func (f *Fleet) enter(i int) {
	n := &f.nodes[i]
	for len(f.byFree) <= n.whole {
		f.byFree = append(f.byFree, nil)
	}
	n.place = len(f.byFree[n.whole])
	f.byFree[n.whole] = append(f.byFree[n.whole], int32(i)) //nolint:gosec // the number of a node
}

func (f *Fleet) leave(i int) {
	n := &f.nodes[i]
	list := f.byFree[n.whole]
	last := len(list) - 1
	list[n.place] = list[last]
	f.nodes[list[n.place]].place = n.place
	f.byFree[n.whole] = list[:last]
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
