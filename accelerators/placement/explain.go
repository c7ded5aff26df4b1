package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warpket/warpket"
)

// words says what the node lacks.
func (n *node) words(q *query, why obstacle) string {
	switch why {
	case silent:
		return "is silent"
	case cordoned:
		return "is cordoned"
	case wrongPlatform:
		return fmt.Sprintf("is %s, not %s", n.platform, q.Platform)
	case noPython:
		return "has no Python " + q.Python
	case noImages:
		return fmt.Sprintf("cannot run images (isolation %s; they need namespaces or gvisor)", n.isolation.Kind)
	case noEgress:
		return fmt.Sprintf("has no network for functions (isolation %s; network egress needs namespaces or none)", n.isolation.Kind)
	case weakIsolation:
		return fmt.Sprintf("has the isolation %s, not %s", n.isolation.Kind, q.need.Isolation)
	case leakyIsolation:
		return fmt.Sprintf("does not keep programs apart completely (isolation %s)", n.isolation)
	case noSimulator:
		return "has no " + q.simulatorWords()
	case noDevices:
		return "has " + n.inventory()
	case noLabels:
		return "lacks " + labelWords(q.need.Labels, n.labels)
	case taken:
		return "has a slot of this deployment"
	case lacksCores:
		return fmt.Sprintf("has %s cores free", cores(n.cpuFree))
	case lacksMemory:
		return fmt.Sprintf("has %s of memory free", mib(n.memoryFree))
	case lacksDevices:
		text := fmt.Sprintf("has %d of %d free", n.devicesFor(q, false), n.devicesFor(q, true))
		for i := range n.devices {
			if d := &n.devices[i]; d.fault != "" && q.match(d) && !q.simulator {
				return text + fmt.Sprintf(" (%s is faulty: %s)", d.id, d.fault)
			}
		}
		for i := range n.simulators {
			if s := &n.simulators[i]; s.fault != "" && q.simulator && q.simulates(s) {
				return text + fmt.Sprintf(" (%s is faulty: %s)", s.id, s.fault)
			}
		}
		return text
	default:
		return "fits"
	}
}

// inventory is what GPUs a node has.
func (n *node) inventory() string {
	if len(n.devices) == 0 {
		return "no GPU"
	}
	counts := map[string]int{}
	for i := range n.devices {
		d := &n.devices[i]
		kind := d.model
		if d.profile != "" {
			kind = "MIG " + d.profile
		}
		if d.capability >= 0 {
			kind += " (" + d.versions + ")"
		}
		if d.simulated {
			kind = "simulated " + kind
		}
		counts[fmt.Sprintf("%s with %s", kind, mib(d.memory))]++
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d × %s", counts[kind], kind))
	}
	return strings.Join(parts, ", ")
}

func labelWords(asked, has map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(asked)) {
		if got, ok := has[k]; !ok || got != asked[k] {
			parts = append(parts, k+"="+asked[k])
		}
	}
	return "the label " + strings.Join(parts, ", ")
}

func (q *query) simulatorWords() string {
	switch {
	case q.pinned != "":
		return "device " + q.pinned + q.ofSize()
	case q.need.Method == "":
		return "simulator" + q.ofSize()
	default:
		return "simulator of the method " + string(q.need.Method) + q.ofSize()
	}
}

// ofSize is what a declared simulator has to have.
func (q *query) ofSize() string {
	if !q.simulated {
		return ""
	}
	return fmt.Sprintf(" with %s cores and %s, simulated", cores(q.need.CPU), mib(q.need.Memory))
}

// needs is the request in words.
func (q *query) needs() string {
	need := &q.need
	text := "needs "
	if need.GPUs > 0 {
		text += q.gpus() + ", "
	}
	text += fmt.Sprintf("%s cores and %s of memory", cores(need.CPU), mib(need.Memory))
	if q.Python != "" {
		text += " with Python " + q.Python
	}
	if q.Images {
		text += " on a node that runs images"
	}
	if need.Network == warpket.Egress {
		text += " on a node that has a network for functions"
	}
	if q.Isolated {
		text += " on a node whose isolation is complete, for its runtime is not trusted"
	}
	return text
}

func (q *query) gpus() string {
	need := &q.need
	what := "GPU"
	if need.MIGProfile != "" {
		what = "MIG instance"
	}
	if need.GPUs > 1 {
		what += "s"
	}
	text := fmt.Sprintf("%d %s", need.GPUs, what)
	var with []string
	if q.pinned != "" {
		with = append(with, "the ID "+q.pinned)
	} else if need.MIGProfile != "" {
		with = append(with, "the profile "+need.MIGProfile)
	}
	if need.GPUMemory > 0 {
		with = append(with, mib(need.GPUMemory))
	}
	if need.ComputeCapability != "" {
		with = append(with, "compute capability "+need.ComputeCapability)
	}
	if need.CUDA != "" {
		with = append(with, "a driver for CUDA "+need.CUDA)
	}
	if len(with) > 0 {
		text += " with " + strings.Join(with, " and ")
	}
	return text
}

// refuse says why nothing fits, and what would.
func (f *Fleet) refuse(q *query) (Decision, error) {
	d := Decision{Why: warpket.Decision{Nodes: len(f.nodes), Candidates: []warpket.Candidate{}, Rejected: f.rejected(q, 0), Hints: []string{}}}
	if len(f.nodes) == 0 {
		d.Reason = q.needs() + "; no node has joined: start one with \"warpket node\""
		return d, warpket.Errorf(warpket.NoCapacity, "%s", d.Reason)
	}
	possible, gpus := false, false
	f.each(q, func(n *node, _ []int32) {
		gpus = gpus || len(n.devices) > 0
		why := n.lacks(q, true)
		possible = possible || !n.live || why == none || why == noLabels // a silent one may come back with more
	})
	waits := q.need.GPUs > 0 && !gpus // for a node with GPUs to join
	if !possible && !waits && q.need.Qubits > 0 && f.tooLarge(q) {
		d.Reason = f.largestSimulation(q)
		return d, warpket.Errorf(warpket.Invalid, "%s", d.Reason).At("resources.qubits")
	}
	d.Why.Hints = f.hints(q)
	d.Reason = q.needs()
	kind := warpket.NoCapacity
	if !possible && !waits {
		kind = warpket.Invalid
		d.Reason += ", which no node has even when empty"
	}
	d.Reason += ": " + examples(d.Why.Rejected)
	if f.spares(q) {
		d.Reason += ". Simulated devices do not stand in for real ones, of which the fleet has some like that, be they busy: a simulated one is had by its ID (device) or by a label of its node"
	}
	if len(d.Why.Hints) > 0 {
		d.Reason += ". It would fit " + strings.Join(d.Why.Hints, "; or ")
	}
	return d, warpket.Errorf(kind, "%s", d.Reason)
}

// examples names some of the nodes that do not fit, and counts the rest.
func examples(rejected []warpket.Rejection) string {
	var named []string
	nodes := 0
	for _, r := range rejected {
		nodes += r.Nodes
		named = append(named, r.Examples[:min(len(r.Examples), shown-min(len(named), shown))]...)
	}
	if more := nodes - len(named); more > 0 {
		var counts []string
		for _, r := range rejected {
			counts = append(counts, fmt.Sprintf("%d %s", r.Nodes, r.Reason))
		}
		named = append(named, fmt.Sprintf("and %d more (%s)", more, strings.Join(counts, ", ")))
	}
	return strings.Join(named, "; ")
}

// tooLarge reports whether the state of a simulation is what no node can hold.
func (f *Fleet) tooLarge(q *query) bool {
	small := q.Request
	small.Resources.Qubits, small.Resources.GPUMemory, small.Resources.Memory = 0, 0, 0
	small.Resources.Method = q.need.Method
	return f.first(f.query(small), true) != nil
}

// spares reports whether there are simulated devices that would match, were
// there no real ones.
func (f *Fleet) spares(q *query) bool {
	if q.simulated || f.declared == 0 || q.need.GPUs == 0 {
		return false
	}
	return f.oldest(q, func(n *node) bool {
		return slices.ContainsFunc(n.devices, func(d device) bool { return d.simulated && q.like(&d) })
	}) != nil
}

func (f *Fleet) largestSimulation(q *query) string {
	need := &q.need
	on, most, largest := "memory", int64(-1), int32(0)
	f.each(q, func(n *node, alike []int32) {
		has := n.memory
		for j := range n.simulators {
			if s := &n.simulators[j]; s.simulated && q.does(s) {
				has = max(has, s.memory)
			}
		}
		if need.GPUs > 0 {
			on, has = fmt.Sprintf("memory on %d GPUs", need.GPUs), 0
			for j := range n.devices {
				if d := &n.devices[j]; d.profile == need.MIGProfile {
					has = max(has, d.memory*int64(need.GPUs))
				}
			}
		}
		if has > most || has == most && alike[0] < largest {
			most, largest = has, alike[0]
		}
	})
	return fmt.Sprintf("a %s of %d qubits needs %s, which no node has even when empty: the most %s is that of %s, %d bytes (%s)%s",
		need.Method, need.Qubits, need.Method.Needs(need.Qubits), on, f.nodes[largest].name, most, warpket.Size(most),
		warpket.Fitting(need.Qubits, func(m warpket.Method) bool {
			other := q.Request
			other.Resources.Method = m
			if other.Resources.GPUs > 0 {
				other.Resources.GPUMemory = 0
			} else {
				other.Resources.Memory = 0
			}
			return m != need.Method && f.first(f.query(other), true) != nil
		}))
}

// first is the oldest node that fits, now or if it were empty.
func (f *Fleet) first(q *query, empty bool) *node {
	return f.oldest(q, func(n *node) bool { return empty && n.lacks(q, true) == none || !empty && n.misfit(q) == none })
}

// oldest is the oldest node of which something is true.
func (f *Fleet) oldest(q *query, is func(*node) bool) *node {
	oldest := int32(-1)
	f.each(q, func(n *node, alike []int32) {
		if is(n) && (oldest < 0 || alike[0] < oldest) {
			oldest = alike[0]
		}
	})
	if oldest < 0 {
		return nil
	}
	return f.nodes[oldest]
}

// hints say what would make a request fit, the smallest changes first.
func (f *Fleet) hints(q *query) []string {
	hints := []string{}
	try := func(format string, change func(*warpket.Resources) string) {
		other := *q
		what := change(&other.need)
		if what == "" {
			return
		}
		f.prepare(&other)
		if n := f.first(&other, false); n != nil && other.simulated == q.simulated {
			hints = append(hints, fmt.Sprintf(format, what)+" on "+n.name)
		}
	}
	if n := f.oldest(q, func(n *node) bool { return n.live && n.cordoned && n.lacks(q, false) == none }); n != nil {
		hints = append(hints, "on "+n.name+" if that were uncordoned")
	}
	if q.need.GPUs > 0 {
		hints = append(hints, f.deviceHints(q)...)
	}
	if most := f.most(q, func(r *warpket.Resources) { r.Memory = 0 }, func(n *node) int64 { return n.memoryFree }); most >= 16<<20 && most < q.need.Memory && q.need.Qubits == 0 {
		try("with at most %s of memory", func(r *warpket.Resources) string { r.Memory = most; return mib(most) })
	}
	if most := f.most(q, func(r *warpket.Resources) { r.CPU = 0 }, func(n *node) int64 { return int64(n.cpuFree) }); most >= 10 && most < int64(q.need.CPU) {
		try("with at most %s cores", func(r *warpket.Resources) string { r.CPU = int(most); return cores(int(most)) })
	}
	if len(q.need.Labels) > 0 {
		try("%s", func(r *warpket.Resources) string { r.Labels = nil; return "without the labels" })
	}
	if q.need.Spread == warpket.RequireSpread {
		try("%s", func(r *warpket.Resources) string {
			r.Spread = warpket.PreferSpread
			return "if slots may share nodes (spread prefer)"
		})
	}
	open := func(n *node) bool {
		return n.live && !n.cordoned && n.lacks(q, true) == none && n.lacks(q, false) != taken
	}
	if n := f.oldest(q, func(n *node) bool { return open(n) && n.sound(q) }); n != nil {
		hints = append(hints, "on "+n.name+" when enough slots there have ended")
	} else if n := f.oldest(q, open); n != nil {
		hints = append(hints, "on "+n.name+" when its devices are sound again")
	}
	return hints[:min(len(hints), shown)]
}

// deviceHints are those about GPUs.
func (f *Fleet) deviceHints(q *query) (hints []string) {
	add := func(change func(*warpket.Resources), format string, args ...any) bool {
		other := *q
		change(&other.need)
		f.prepare(&other)
		n := f.first(&other, false)
		if other.simulated != q.simulated {
			n = nil // nobody is sent from what runs to what does not
		}
		if n != nil {
			hints = append(hints, fmt.Sprintf(format, args...)+" on "+n.name)
		}
		return n != nil
	}
	for gpus := q.need.GPUs - 1; gpus > 0; gpus-- {
		if add(func(r *warpket.Resources) { r.GPUs = gpus }, "with %d of them", gpus) {
			break
		}
	}
	if q.need.GPUMemory > 0 && q.need.Qubits == 0 {
		most := f.most(q, func(r *warpket.Resources) { r.GPUMemory = 0 }, func(n *node) int64 {
			other := *q
			other.need.GPUMemory = 0
			f.prepare(&other)
			return n.smallest(&other)
		})
		if most > 0 {
			add(func(r *warpket.Resources) { r.GPUMemory = most }, "with at most %s for each", mib(most))
		}
	}
	if q.pinned == "" {
		for _, profile := range f.profiles(q) {
			if add(func(r *warpket.Resources) { r.MIGProfile = profile }, "as MIG instances %s", profile) {
				break
			}
		}
		if q.need.MIGProfile != "" {
			add(func(r *warpket.Resources) { r.MIGProfile = "" }, "as whole GPUs")
		}
	}
	if q.need.CUDA != "" {
		add(func(r *warpket.Resources) { r.CUDA = "" }, "with an older CUDA version")
	}
	if q.need.ComputeCapability != "" {
		add(func(r *warpket.Resources) { r.ComputeCapability = "" }, "with a lower compute capability")
	}
	return hints
}

// smallest is the memory that each of as many free devices as are asked for
// has, at best.
func (n *node) smallest(q *query) int64 {
	left := q.need.GPUs
	for i := len(n.devices) - 1; i >= 0; i-- {
		if d := &n.devices[i]; !n.held[i] && d.fault == "" && q.match(d) {
			if left--; left == 0 {
				return d.memory
			}
		}
	}
	return 0
}

// sound reports whether enough of its devices are free of faults.
func (n *node) sound(q *query) bool {
	count := 0
	for i := range n.devices {
		if d := &n.devices[i]; d.fault == "" && q.match(d) {
			count++
		}
	}
	return count >= q.need.GPUs
}

// profiles are the other MIG profiles of the fleet, the smallest first.
func (f *Fleet) profiles(q *query) []string {
	memory := map[string]int64{}
	f.each(q, func(n *node, _ []int32) {
		for j := range n.devices {
			if d := &n.devices[j]; d.profile != "" && d.profile != q.need.MIGProfile {
				memory[d.profile] = d.memory
			}
		}
	})
	profiles := slices.Sorted(maps.Keys(memory))
	slices.SortStableFunc(profiles, func(a, b string) int { return int((memory[a] - memory[b]) >> 20) })
	return profiles
}

// most is the largest value on nodes that fit after a change.
func (f *Fleet) most(q *query, change func(*warpket.Resources), value func(*node) int64) (most int64) {
	other := *q
	change(&other.need)
	f.prepare(&other)
	f.each(q, func(n *node, _ []int32) {
		if n.misfit(&other) == none {
			most = max(most, value(n))
		}
	})
	return most
}

// free is what the node has free of what is asked for.
func (q *query) free(n *node) string {
	if q.elsewhere() {
		s := n.declared(q)
		return fmt.Sprintf("the simulator %s with %s cores and %s free", s.id, cores(s.cpu), mib(s.memory))
	}
	text := fmt.Sprintf("%s cores and %s free", cores(n.cpuFree), mib(n.memoryFree))
	if q.need.GPUs > 0 {
		text = fmt.Sprintf("%d such devices, %s", n.devicesFor(q, false), text)
	}
	return text
}

func cores(thousandths int) string { return fmt.Sprintf("%g", float64(thousandths)/1000) }

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
