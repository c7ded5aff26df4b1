// Package placement decides which node gets a slot, and which of its devices,
// and says why. It is pure: the fleet and a request go in, a decision comes
// out; the caller commits it and places again if somebody was faster.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/warpket/warpket"
)

// Request is what a slot needs.
type Request struct {
	Resources warpket.Resources
	Platform  string             // of the runtime, "linux/amd64"
	Python    string             // minor that the node must have; empty for none
	Images    bool               // whether the node must be able to run images
	Isolated  bool               // whether its isolation must be complete, see warpket.Isolation
	Peers     map[warpket.ID]int // slots that the same deployment has on nodes, for Resources.Spread
	Warm      map[warpket.ID]bool
}

// RequestOf is the request for what is needed, whatever else there is.
func RequestOf(n warpket.Need) Request {
	return Request{Resources: n.Resources, Platform: n.Platform, Python: n.Python, Images: n.Images, Isolated: n.Isolated}
}

// Decision is where a slot goes.
type Decision struct {
	NodeID   warpket.ID
	NodeName string
	Devices  []string
	Reason   string
	Why      warpket.Decision
}

// Place picks the node and devices of the least cost; the oldest node wins a
// tie. When none fits, the error is NoCapacity and says for each node what is
// missing, and what would make it fit. It is Invalid when no node of the fleet
// could hold the request even if it were empty; but what needs a GPU may wait
// for one where there are none. The decision's Why is there in any case.
func Place(fleet []warpket.Node, r Request) (Decision, error) { return New(fleet).Place(r) }

// Place is the function Place for a fleet that is kept current.
func (f *Fleet) Place(r Request) (Decision, error) {
	q := f.query(r)
	top, fits := f.search(q)
	if len(top) == 0 {
		return f.refuse(q)
	}
	d := f.decision(q, top[0])
	d.Why = warpket.Decision{Nodes: len(f.nodes), Fits: fits, Candidates: f.candidates(q, top), Rejected: f.rejected(q, fits), Hints: []string{}}
	n := f.nodes[top[0].node]
	d.Reason = fmt.Sprintf("%s has %s; %s: the least of %d of %d nodes that fit", n.name, q.free(n), d.Why.Candidates[0].Why, fits, len(f.nodes))
	return d, nil
}

// Try is Place without its reasons.
func (f *Fleet) Try(r Request) (Decision, bool) { return f.try(f.query(r)) }

func (f *Fleet) try(q *query) (Decision, bool) {
	if q.shape > 0 {
		best, fits := f.again(q)
		if !fits {
			return Decision{}, false
		}
		return f.decision(q, best), true
	}
	top, _ := f.search(q)
	if len(top) == 0 {
		return Decision{}, false
	}
	return f.decision(q, top[0]), true
}

func (f *Fleet) decision(q *query, best scored) Decision {
	n := f.nodes[best.node]
	return Decision{NodeID: n.id, NodeName: n.name, Devices: n.pick(q)}
}

// query is a Request, prepared for being asked of many nodes of a fleet.
type query struct {
	Request
	need       warpket.Resources // with what its simulation needs
	pinned     string
	capability int // see warpket.VersionNumber
	cuda       int
	any        bool // whether any whole GPU will do
	simulator  bool // whether it needs a simulator, and no GPU
	simulated  bool // whether it gets devices that are only declared, see Fleet.pretends
	devices    int  // that its slot holds
	shape      int  // the number of what is asked for several times, see Fill; 0 for none
}

func (f *Fleet) query(r Request) *query {
	q := &query{Request: r, need: r.Resources, pinned: r.Resources.Device}
	if n := &q.need; n.Qubits > 0 {
		n.Method = cmp.Or(n.Method, warpket.Statevector)
		if n.GPUs > 0 {
			n.GPUMemory = max(n.GPUMemory, n.Method.Memory(n.Qubits)/int64(n.GPUs))
		} else {
			n.Memory = max(n.Memory, n.Method.SlotMemory(n.Qubits))
		}
	}
	f.prepare(q)
	return q
}

// prepare reads what is compared often; call it again when need has changed.
func (f *Fleet) prepare(q *query) {
	n := &q.need
	q.capability, q.cuda = warpket.VersionNumber(n.ComputeCapability), warpket.VersionNumber(n.CUDA)
	q.simulator = n.GPUs == 0 && (n.Qubits > 0 || n.Method != "" || q.pinned != "")
	q.simulated = f.declared > 0 && f.pretends(q)
	q.any = q.pinned == "" && n.MIGProfile == "" && n.GPUMemory == 0 && q.capability < 0 && q.cuda < 0 && f.declared == 0
	q.devices = n.GPUs
	if q.simulator && q.simulated {
		q.devices = 1
	}
}

// pretends reports whether a request gets devices that are only declared: some
// match it, and no real one does, busy or not, on any node that has the labels
// which are asked for. So what can run waits for a device that runs it.
func (f *Fleet) pretends(q *query) bool {
	if q.need.GPUs == 0 && !q.simulator {
		return false
	}
	found, declared := false, false // real ones, and declared ones
	f.each(q, func(n *node, _ []int32) {
		if found || !holds(n.labels, q.need.Labels) {
			return
		}
		if q.simulator {
			for i := range n.simulators {
				if s := &n.simulators[i]; q.does(s) && q.within(s) {
					found, declared = found || !s.simulated, declared || s.simulated
				}
			}
			return
		}
		for i := range n.devices {
			if d := &n.devices[i]; q.like(d) {
				found, declared = found || !d.simulated, declared || d.simulated
			}
		}
	})
	return declared && !found
}

// match reports whether a device is of the kind that is asked for, and real if
// that is what the request gets.
func (q *query) match(d *device) bool { return d.simulated == q.simulated && q.like(d) }

// like is match for real and simulated devices alike.
func (q *query) like(d *device) bool {
	if q.pinned != "" {
		if d.id != q.pinned {
			return false
		}
	} else if d.profile != q.need.MIGProfile {
		return false
	}
	return d.memory >= q.need.GPUMemory && d.capability >= q.capability && d.cuda >= q.cuda
}

// obstacle is why a node cannot hold a request; those that are easier to
// overcome come later.
type obstacle int

const (
	none obstacle = iota
	silent
	cordoned
	wrongPlatform
	noPython
	noImages
	noEgress
	weakIsolation
	leakyIsolation // not complete
	noSimulator
	noDevices // not even when nothing is leased
	noLabels
	taken // by another slot of the deployment
	lacksCores
	lacksMemory
	lacksDevices
	obstacles
)

var obstacleWords = [obstacles]string{
	silent: "silent", cordoned: "cordoned", wrongPlatform: "another platform", noPython: "without the Python", noImages: "without images", noEgress: "without a network for functions", weakIsolation: "isolation too weak", leakyIsolation: "isolation not complete",
	noSimulator: "no such simulator", noDevices: "no such devices", noLabels: "without the labels", taken: "has a slot of the deployment", lacksCores: "too few free cores", lacksMemory: "too little free memory", lacksDevices: "too few free devices",
}

// misfit says why the node cannot hold the request now.
func (n *node) misfit(q *query) obstacle {
	switch {
	case !n.live:
		return silent
	case n.cordoned:
		return cordoned
	}
	return n.lacks(q, false)
}

// lacks is misfit for a node that is open; if empty, one on which nothing is
// leased and whose devices are sound.
func (n *node) lacks(q *query, empty bool) obstacle {
	cpu, memory := n.cpuFree, n.memoryFree
	if empty {
		cpu, memory = n.cpu, n.memory
	}
	need := &q.need
	switch {
	case q.Platform != "" && n.platform != q.Platform:
		return wrongPlatform
	case q.Python != "" && !slices.Contains(n.pythons, q.Python):
		return noPython
	case q.Images && !n.images:
		return noImages
	case need.Network == warpket.Egress && n.noEgress:
		return noEgress
	case !n.isolation.AtLeast(need.Isolation):
		return weakIsolation
	case q.Isolated && !n.isolation.Complete():
		return leakyIsolation
	case q.simulator && n.devicesFor(q, true) == 0:
		return noSimulator
	}
	devices := q.devices == 0 || n.devicesFor(q, empty) >= q.devices
	switch {
	case !devices && (empty || n.devicesFor(q, true) < q.devices):
		return noDevices
	case !holds(n.labels, need.Labels):
		return noLabels
	case !empty && need.Spread == warpket.RequireSpread && q.Peers[n.id] > 0:
		return taken
	case !q.elsewhere() && cpu < need.CPU:
		return lacksCores
	case !q.elsewhere() && memory < need.Memory:
		return lacksMemory
	case !devices:
		return lacksDevices
	}
	return none
}

func holds(labels, asked map[string]string) bool {
	return len(asked) == 0 || warpket.Node{Labels: labels}.HasLabels(asked)
}

// elsewhere reports whether the slot has the cores and the memory of a simulator
// that is only declared, and none of its node.
func (q *query) elsewhere() bool { return q.simulator && q.simulated }

// simulates reports whether a simulator does what is asked for. One that is only
// declared has the cores and the memory for it, too; those of a real one are its
// node's.
func (q *query) simulates(s *simulator) bool {
	return s.simulated == q.simulated && q.does(s) && (!s.simulated || q.within(s))
}

func (q *query) does(s *simulator) bool {
	return (q.pinned == "" || s.id == q.pinned) && (q.need.Method == "" || slices.Contains(s.methods, string(q.need.Method)))
}

func (q *query) within(s *simulator) bool { return s.cpu >= q.need.CPU && s.memory >= q.need.Memory }

// devicesFor counts the devices of the kind that is asked for.
func (n *node) devicesFor(q *query, empty bool) (count int) {
	if q.simulator {
		for i := range n.simulators {
			if s := &n.simulators[i]; (empty || !s.held && s.fault == "") && q.simulates(s) {
				count++
			}
		}
		return count
	}
	if q.any {
		if empty {
			return n.wholes
		}
		return n.whole
	}
	for i := range n.devices {
		if d := &n.devices[i]; (empty || !n.held[i] && d.fault == "") && q.match(d) {
			count++
		}
	}
	return count
}

// pick chooses devices on a node that has enough: all of one model where there
// are enough of one, and of those with the least memory that is enough.
func (n *node) pick(q *query) []string {
	if q.elsewhere() {
		return []string{n.declared(q).id}
	}
	if q.need.GPUs == 0 {
		return nil
	}
	var free []*device
	for i := range n.devices {
		if d := &n.devices[i]; !n.held[i] && d.fault == "" && q.match(d) {
			free = append(free, d)
		}
	}
	chosen := free[:q.need.GPUs]
	for i := range free {
		if end := i + q.need.GPUs; end <= len(free) && free[end-1].model == free[i].model {
			chosen = free[i:end]
			break
		}
	}
	ids := make([]string, len(chosen))
	for i, d := range chosen {
		ids[i] = d.id
	}
	return ids
}

// declared is the free declared simulator with the least memory that is enough.
func (n *node) declared(q *query) *simulator {
	for i := range n.simulators {
		if s := &n.simulators[i]; !s.held && s.fault == "" && q.simulates(s) {
			return s
		}
	}
	return nil
}

// shown is how many candidates, examples of a reason, and hints are kept.
const shown = 5

type scored struct {
	node int
	cost float64
}

// each calls a function for one node of those that are alike to a request, with
// the indexes of all of them, in order. Nodes that the request itself tells
// apart, it is called for one by one.
func (f *Fleet) each(q *query, look func(n *node, alike []int32)) {
	if q.pinned != "" {
		for i := range f.nodes {
			look(f.nodes[i], []int32{int32(i)})
		}
		return
	}
	special := map[int32]bool{}
	mixed := map[state]bool{} // that have special ones among them
	mark := func(id warpket.ID) {
		if i, ok := f.index[id]; ok {
			special[int32(i)] = true //nolint:gosec // the number of a node
			mixed[f.nodes[i].state] = true
		}
	}
	for id, warm := range q.Warm {
		if warm {
			mark(id)
		}
	}
	for id := range q.Peers {
		mark(id)
	}
	for i := range special {
		look(f.nodes[i], []int32{i})
	}
	for s, g := range f.alike {
		alike := g.nodes
		if mixed[s] {
			alike = slices.DeleteFunc(slices.Clone(alike), func(i int32) bool { return special[i] })
			if len(alike) == 0 {
				continue
			}
		}
		look(f.nodes[alike[0]], alike)
	}
}

// search gives the nodes of the least cost, and how many fit.
func (f *Fleet) search(q *query) (top []scored, fits int) {
	top = make([]scored, 0, shown+1)
	f.each(q, func(n *node, alike []int32) {
		if n.misfit(q) != none {
			return
		}
		fits += len(alike)
		cost := f.terms(n, q).sum()
		for _, i := range alike[:min(len(alike), shown)] {
			s := scored{int(i), cost}
			if len(top) == shown && !s.before(top[shown-1]) {
				return
			}
			at, _ := slices.BinarySearchFunc(top, s, func(a, b scored) int {
				if a.before(b) {
					return -1
				}
				return 1
			})
			top = slices.Insert(top, at, s)
			top = top[:min(len(top), shown)]
		}
	})
	return top, fits
}

// again is search for the best node only, for what is asked for again and again
// while nodes change one at a time: what it would cost where nothing has changed
// is known.
func (f *Fleet) again(q *query) (best scored, fits bool) {
	for _, g := range f.alike {
		for len(g.verdicts) < q.shape {
			g.verdicts = append(g.verdicts, verdict{})
		}
		v := &g.verdicts[q.shape-1]
		if !v.known {
			n := f.nodes[g.nodes[0]]
			v.known, v.fits = true, n.misfit(q) == none
			if v.fits {
				v.cost = f.terms(n, q).sum()
			}
		}
		if s := (scored{int(g.nodes[0]), v.cost}); v.fits && (!fits || s.before(best)) {
			best, fits = s, true
		}
	}
	return best, fits
}

func (s scored) before(other scored) bool {
	return s.cost < other.cost || s.cost == other.cost && s.node < other.node
}

// terms are what the cost of a place is made of.
type terms struct {
	left      float64 // share of the node that stays free, by its scarcest resource
	stranded  float64 // GPUs that are stranded by it
	beside    float64 // 1 for what needs no GPU on a node with GPUs
	waste     float64 // share of the GPU's memory that is not asked for
	peers     float64 // slots of the same deployment there, if they are to spread
	warm      float64 // 1 where the runtime is installed
	simulated bool    // not of the cost: its devices are only declared
}

// The weights. What a deployment asked for comes first, then that GPUs stay
// usable; little of them outweighs a warm node.
func (t terms) sum() float64 {
	return 8*t.peers + t.stranded + t.left + 0.5*t.beside + t.waste - 0.5*t.warm
}

func (f *Fleet) terms(n *node, q *query) (t terms) {
	need := &q.need
	t.simulated = q.simulated
	if need.Spread == warpket.PreferSpread {
		t.peers = float64(q.Peers[n.id])
	}
	if q.Warm[n.id] {
		t.warm = 1
	}
	if q.elsewhere() {
		t.left = 1 - float64(need.Memory)/float64(max(n.declared(q).memory, 1))
		return t
	}
	cpu, memory, whole := n.cpuFree-need.CPU, n.memoryFree-need.Memory, n.whole
	t.left = min(float64(cpu)/float64(max(n.cpu, 1)), float64(memory)/float64(max(n.memory, 1)))
	if need.GPUs > 0 {
		for i := range n.devices {
			if d := &n.devices[i]; !n.held[i] && d.fault == "" && q.match(d) {
				if d.profile == "" {
					whole -= need.GPUs
					t.left = min(t.left, float64(whole)/float64(max(n.wholes, 1)))
				}
				t.waste = 1 - float64(need.GPUMemory)/float64(max(d.memory, 1))
				break
			}
		}
	} else if n.wholes > 0 {
		t.beside = 1
	}
	if n.wholes > 0 {
		t.stranded = f.mix.Stranded(whole, cpu, memory) - f.mix.Stranded(n.whole, n.cpuFree, n.memoryFree)
	}
	return t
}

// String tells what matters of the terms.
func (t terms) String() string {
	parts := []string{fmt.Sprintf("%.0f %% is left over", 100*t.left)}
	add := func(show bool, format string, args ...any) {
		if show {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(t.warm > 0, "has the runtime")
	add(t.stranded > 0.005, "strands %.2f GPUs", t.stranded)
	add(t.stranded < -0.005, "uses %.2f GPUs that were stranded", -t.stranded)
	add(t.beside > 0, "takes room beside GPUs")
	add(t.peers > 0, "has %.0f slots of the deployment", t.peers)
	add(t.simulated, "its devices are simulated, for the fleet has no real ones like that")
	return strings.Join(parts, ", ")
}

func (f *Fleet) candidates(q *query, top []scored) []warpket.Candidate {
	out := make([]warpket.Candidate, len(top))
	for i, s := range top {
		n := f.nodes[s.node]
		out[i] = warpket.Candidate{Node: n.name, Devices: append([]string{}, n.pick(q)...), Cost: s.cost, Why: f.terms(n, q).String()}
	}
	return out
}

// rejected counts the nodes that do not fit by reason, with a few examples of
// each.
func (f *Fleet) rejected(q *query, fits int) []warpket.Rejection {
	out := []warpket.Rejection{}
	if fits == len(f.nodes) {
		return out
	}
	var counts [obstacles]int
	var examples [obstacles][]int32
	f.each(q, func(n *node, alike []int32) {
		if why := n.misfit(q); why != none {
			counts[why] += len(alike)
			examples[why] = append(examples[why], alike[:min(len(alike), shown)]...)
		}
	})
	for why := obstacles - 1; why > none; why-- {
		if counts[why] == 0 {
			continue
		}
		r := warpket.Rejection{Reason: obstacleWords[why], Nodes: counts[why]}
		slices.Sort(examples[why])
		for _, i := range examples[why][:min(len(examples[why]), shown)] {
			n := f.nodes[i]
			r.Examples = append(r.Examples, n.name+" "+n.words(q, why))
		}
		out = append(out, r)
	}
	return out
}
