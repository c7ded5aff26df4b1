package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

const gib = 1 << 30

// gpus adds GPUs to a node.
func gpus(n warpket.Node, count int, memory int64, change ...func(*warpket.Device)) warpket.Node {
	for range count {
		d := warpket.Device{
			ID: fmt.Sprintf("%s-%d", n.Name, len(n.Inventory.Devices)), Kind: warpket.NVIDIA, Name: fmt.Sprintf("GPU %d", memory/gib), Memory: memory,
			ComputeCapability: "9.0", CUDAVersion: "13.0",
		}
		for _, c := range change {
			c(&d)
		}
		n.Inventory.Devices = append(n.Inventory.Devices, d)
	}
	return n
}

// slices of a GPU that is cut.
func cut(n warpket.Node, profiles ...string) warpket.Node {
	n = gpus(n, 1, 80*gib, func(d *warpket.Device) { d.MIGEnabled = true })
	parent := n.Inventory.Devices[len(n.Inventory.Devices)-1].ID
	for _, p := range profiles {
		var g, m int64
		_, _ = fmt.Sscanf(p, "%dg.%dgb", &g, &m)
		n = gpus(n, 1, m*gib, func(d *warpket.Device) { d.MIGProfile, d.ParentID, d.Name = p, parent, "slice" })
	}
	return n
}

func change(n warpket.Node, change func(*warpket.Node)) warpket.Node {
	change(&n)
	return n
}

func simulates(n warpket.Node, methods ...string) warpket.Node {
	n.Inventory.Devices = append(n.Inventory.Devices, warpket.Device{ID: "simulator", Kind: warpket.QuantumSimulator, Memory: n.Inventory.Memory, Methods: methods})
	return n
}

func asks(fields warpket.Resources) Request {
	return Request{Resources: fields.Or(warpket.Resources{CPU: 1000, Memory: gib}), Platform: "linux/amd64", Python: "3.11"}
}

var allMethods = []string{"statevector", "density_matrix", "stabilizer", "matrix_product_state"}

func TestPlaceDevices(t *testing.T) {
	t.Parallel()
	plain := func(name string) warpket.Node { return machine(name, 64_000, 512*gib) }
	two := gpus(plain("two"), 2, 80*gib)
	held := change(gpus(plain("held"), 2, 80*gib), func(n *warpket.Node) { n.DevicesLeased = []string{"held-0"} })
	small := gpus(plain("small"), 4, 24*gib)
	faulty := gpus(plain("faulty"), 1, 80*gib, func(d *warpket.Device) { d.Fault = "Xid 79" })
	sliced := cut(plain("sliced"), "1g.10gb", "1g.10gb", "3g.40gb")
	old := gpus(plain("old"), 1, 80*gib, func(d *warpket.Device) { d.ComputeCapability, d.CUDAVersion = "8.6", "12.4" })
	laptop := simulates(machine("laptop", 8_000, 16*gib), allMethods...)
	server := simulates(machine("server", 64_000, 512*gib), allMethods...)
	tests := map[string]struct {
		fleet   []warpket.Node
		need    Request
		node    string
		devices []string
		kind    warpket.Kind
		says    []string
	}{
		"one GPU goes where it strands least":          {[]warpket.Node{two, held}, asks(warpket.Resources{GPUs: 1}), "held", []string{"held-1"}, "", nil},
		"two go where two are":                         {[]warpket.Node{held, two}, asks(warpket.Resources{GPUs: 2}), "two", []string{"two-0", "two-1"}, "", nil},
		"the smaller GPU that is enough":               {[]warpket.Node{two, small}, asks(warpket.Resources{GPUs: 1, GPUMemory: 20 * gib}), "small", []string{"small-0"}, "", nil},
		"the larger where the smaller is not enough":   {[]warpket.Node{small, two}, asks(warpket.Resources{GPUs: 1, GPUMemory: 40 * gib}), "two", []string{"two-0"}, "", nil},
		"what needs none keeps off GPUs":               {[]warpket.Node{two, plain("plain")}, asks(warpket.Resources{}), "plain", nil, "", nil},
		"a slice where one is asked for":               {[]warpket.Node{two, sliced}, asks(warpket.Resources{GPUs: 1, MIGProfile: "1g.10gb"}), "sliced", []string{"sliced-1"}, "", nil},
		"no slice where none is":                       {[]warpket.Node{sliced, two}, asks(warpket.Resources{GPUs: 1, GPUMemory: 5 * gib}), "two", []string{"two-0"}, "", nil},
		"the device that is asked for":                 {[]warpket.Node{two, sliced}, asks(warpket.Resources{GPUs: 1, Device: "sliced-3"}), "sliced", []string{"sliced-3"}, "", nil},
		"the driver decides which CUDA version":        {[]warpket.Node{old, two}, asks(warpket.Resources{GPUs: 1, CUDA: "13.0"}), "two", []string{"two-0"}, "", nil},
		"a warm node outweighs a little room":          {[]warpket.Node{machine("a", 8000, 8*gib), machine("b", 16000, 16*gib)}, Request{Resources: warpket.Resources{CPU: 1000, Memory: gib}, Warm: map[warpket.ID]bool{"b": true}}, "b", nil, "", nil},
		"labels decide":                                {[]warpket.Node{plain("a"), change(plain("b"), func(n *warpket.Node) { n.Labels = map[string]string{"zone": "x"} })}, asks(warpket.Resources{Labels: map[string]string{"zone": "x"}}), "b", nil, "", nil},
		"slots spread where they are asked to":         {[]warpket.Node{machine("a", 4000, 4*gib), machine("b", 8000, 8*gib)}, Request{Resources: warpket.Resources{CPU: 1000, Memory: gib, Spread: warpket.PreferSpread}, Peers: map[warpket.ID]int{"a": 1}}, "b", nil, "", nil},
		"a statevector that fits":                      {[]warpket.Node{laptop, server}, asks(warpket.Resources{Qubits: 32}), "server", nil, "", nil},
		"a method that only one simulator has":         {[]warpket.Node{simulates(plain("a"), "statevector"), server}, asks(warpket.Resources{Method: warpket.Stabilizer}), "server", nil, "", nil},
		"too few are counted, and fewer would fit":     {[]warpket.Node{held}, asks(warpket.Resources{GPUs: 2, GPUMemory: 40 * gib}), "", nil, warpket.NoCapacity, []string{"needs 2 GPUs with 40960 MiB", "held has 1 of 2 free", "with 1 of them on held", "on held when enough slots there have ended"}},
		"a cordoned node is told":                      {[]warpket.Node{held, change(two, func(n *warpket.Node) { n.Cordoned = true })}, asks(warpket.Resources{GPUs: 2}), "", nil, warpket.NoCapacity, []string{"two is cordoned", "on two if that were uncordoned"}},
		"less memory would fit":                        {[]warpket.Node{small, change(two, func(n *warpket.Node) { n.DevicesLeased = []string{"two-0", "two-1"} })}, asks(warpket.Resources{GPUs: 2, GPUMemory: 40 * gib}), "", nil, warpket.NoCapacity, []string{"small has 4 × GPU 24", "with at most 24576 MiB for each on small"}},
		"a slice would fit":                            {[]warpket.Node{sliced, change(two, func(n *warpket.Node) { n.DevicesLeased = []string{"two-0", "two-1"} })}, asks(warpket.Resources{GPUs: 1, GPUMemory: 30 * gib}), "", nil, warpket.NoCapacity, []string{"as MIG instances 3g.40gb on sliced"}},
		"another profile would fit":                    {[]warpket.Node{sliced}, asks(warpket.Resources{GPUs: 1, MIGProfile: "2g.20gb"}), "", nil, warpket.Invalid, []string{"as MIG instances 1g.10gb on sliced"}},
		"a faulty GPU is none, for now":                {[]warpket.Node{faulty}, asks(warpket.Resources{GPUs: 1}), "", nil, warpket.NoCapacity, []string{"faulty-0 is faulty: Xid 79"}},
		"a slice of a faulty GPU is none":              {[]warpket.Node{change(cut(plain("s"), "1g.10gb"), func(n *warpket.Node) { n.Inventory.Devices[0].Fault = "ECC" })}, asks(warpket.Resources{GPUs: 1, MIGProfile: "1g.10gb"}), "", nil, warpket.NoCapacity, []string{"s-1 is faulty: ECC"}},
		"a GPU is waited for where there is none":      {[]warpket.Node{plain("a")}, asks(warpket.Resources{GPUs: 1}), "", nil, warpket.NoCapacity, []string{"a has no GPU"}},
		"more than any node has is invalid":            {[]warpket.Node{two, small}, asks(warpket.Resources{GPUs: 8}), "", nil, warpket.Invalid, []string{"which no node has even when empty", "two has 2 × GPU 80", "with 4 of them on small"}},
		"too old a GPU is invalid":                     {[]warpket.Node{old}, asks(warpket.Resources{GPUs: 1, ComputeCapability: "9.0"}), "", nil, warpket.Invalid, []string{"(8.6, CUDA 12.4)", "with a lower compute capability on old"}},
		"labels can be set, so they are waited for":    {[]warpket.Node{plain("a")}, asks(warpket.Resources{Labels: map[string]string{"zone": "x"}}), "", nil, warpket.NoCapacity, []string{"a lacks the label zone=x", "without the labels on a"}},
		"isolation is what a node has":                 {[]warpket.Node{plain("a")}, asks(warpket.Resources{Isolation: "gvisor"}), "", nil, warpket.Invalid, []string{"not gvisor"}},
		"never two slots of a deployment on one node":  {[]warpket.Node{plain("a")}, Request{Resources: warpket.Resources{CPU: 1, Spread: warpket.RequireSpread}, Peers: map[warpket.ID]int{"a": 1}}, "", nil, warpket.NoCapacity, []string{"a has a slot of this deployment", "spread prefer"}},
		"a method that nobody has is invalid":          {[]warpket.Node{simulates(plain("a"), "statevector")}, asks(warpket.Resources{Method: warpket.Stabilizer}), "", nil, warpket.Invalid, []string{"a has no simulator of the method stabilizer"}},
		"34 qubits do not fit into 16 GiB":             {[]warpket.Node{laptop}, asks(warpket.Resources{Qubits: 34}), "", nil, warpket.Invalid, []string{"a statevector of 34 qubits needs 274877906944 bytes (256 GiB)", "laptop, 17179869184 bytes (16 GiB)", "these methods would fit: stabilizer (596 bytes, Clifford circuits only), matrix_product_state"}},
		"34 qubits on a busy server wait":              {[]warpket.Node{laptop, change(server, func(n *warpket.Node) { n.MemoryLeased = 500 * gib })}, asks(warpket.Resources{Qubits: 34}), "", nil, warpket.NoCapacity, []string{"on server when enough slots there have ended"}},
		"34 qubits do not fit onto two GPUs of 80 GiB": {[]warpket.Node{two}, asks(warpket.Resources{Qubits: 34, GPUs: 2}), "", nil, warpket.Invalid, []string{"274877906944 bytes", "171798691840 bytes (160 GiB)"}},
		"33 qubits fit onto two":                       {[]warpket.Node{two}, asks(warpket.Resources{Qubits: 33, GPUs: 2}), "two", []string{"two-0", "two-1"}, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Place(tt.fleet, tt.need)
			if warpket.KindOf(err) != tt.kind || d.NodeName != tt.node {
				t.Fatalf("placed on %q with error %v", d.NodeName, err)
			}
			if diff := cmp.Diff(tt.devices, d.Devices); diff != "" {
				t.Error(diff)
			}
			text := d.Reason
			if err != nil {
				text = err.Error()
			}
			for _, says := range tt.says {
				if !strings.Contains(text, says) {
					t.Errorf("said %q, without %q", text, says)
				}
			}
			if seen := d.Why.Fits; err == nil {
				for _, r := range d.Why.Rejected {
					seen += r.Nodes
				}
				if seen != len(tt.fleet) || d.Why.Candidates[0].Node != tt.node {
					t.Errorf("the decision is %+v", d.Why)
				}
			}
		})
	}
}

// declares adds a simulator that is only declared.
func declares(n warpket.Node, id string, cores int, memory int64, methods ...string) warpket.Node {
	n.Inventory.Devices = append(n.Inventory.Devices, warpket.Device{ID: id, Kind: warpket.QuantumSimulator, Memory: memory, Cores: cores, Methods: methods, Simulated: true})
	return n
}

func TestSimulatedDevicesDoNotStandInForRealOnes(t *testing.T) {
	t.Parallel()
	pretend := func(d *warpket.Device) { d.Simulated = true }
	plain := func(name string) warpket.Node { return machine(name, 64_000, 512*gib) }
	real := gpus(plain("real"), 2, 40*gib)
	busy := change(real, func(n *warpket.Node) { n.DevicesLeased = []string{"real-0", "real-1"} })
	broken := gpus(plain("real"), 1, 40*gib, func(d *warpket.Device) { d.Fault = "Xid 79" })
	silent := change(real, func(n *warpket.Node) { n.Live = false })
	planned := gpus(plain("planned"), 4, 80*gib, pretend)
	labelled := change(planned, func(n *warpket.Node) { n.Labels = map[string]string{"plan": "x"} })
	sliced := gpus(planned, 1, 10*gib, pretend, func(d *warpket.Device) { d.MIGProfile = "1g.10gb" })
	both := gpus(gpus(plain("both"), 1, 40*gib), 2, 40*gib, pretend)
	laptop := simulates(machine("laptop", 8_000, 16*gib), allMethods...)
	declared := declares(simulates(machine("declared", 8_000, 16*gib), allMethods...), "big", 128, 1024*gib, allMethods...)
	held := change(declared, func(n *warpket.Node) { n.DevicesLeased = []string{"big"} })
	faulty := change(declares(laptop, "big", 128, 1024*gib, allMethods...), func(n *warpket.Node) { n.Inventory.Devices[1].Fault = "off" })
	const never = "a simulated one is had by its ID (device) or by a label of its node"
	tests := map[string]struct {
		fleet   []warpket.Node
		need    warpket.Resources
		node    string
		devices []string
		kind    warpket.Kind
		says    string
	}{
		"a real GPU goes first":                               {[]warpket.Node{planned, real}, warpket.Resources{GPUs: 1}, "real", []string{"real-0"}, "", ""},
		"one that is busy is waited for":                      {[]warpket.Node{planned, busy}, warpket.Resources{GPUs: 1}, "", nil, warpket.NoCapacity, never},
		"one that is faulty":                                  {[]warpket.Node{planned, broken}, warpket.Resources{GPUs: 1, GPUMemory: 20 * gib}, "", nil, warpket.NoCapacity, never},
		"one whose node is silent":                            {[]warpket.Node{planned, silent}, warpket.Resources{GPUs: 1}, "", nil, warpket.NoCapacity, never},
		"more than there are real ones is refused":            {[]warpket.Node{planned, real}, warpket.Resources{GPUs: 3}, "", nil, warpket.Invalid, never},
		"real and simulated ones are never mixed":             {[]warpket.Node{both}, warpket.Resources{GPUs: 2}, "", nil, warpket.Invalid, never},
		"no hint leads from real ones to simulated ones":      {[]warpket.Node{sliced, busy}, warpket.Resources{GPUs: 1, CUDA: "13.0"}, "", nil, warpket.NoCapacity, "like that, be they busy"},
		"where no real one is like that they serve":           {[]warpket.Node{planned, busy}, warpket.Resources{GPUs: 1, GPUMemory: 80 * gib}, "planned", []string{"planned-0"}, "", "its devices are simulated, for the fleet has no real ones like that"},
		"the request may name one":                            {[]warpket.Node{planned, real}, warpket.Resources{GPUs: 1, Device: "planned-2"}, "planned", []string{"planned-2"}, "", "simulated"},
		"or a label of its node":                              {[]warpket.Node{labelled, real}, warpket.Resources{GPUs: 1, Labels: map[string]string{"plan": "x"}}, "planned", []string{"planned-0"}, "", "simulated"},
		"which real ones do not have":                         {[]warpket.Node{labelled, change(busy, func(n *warpket.Node) { n.Labels = map[string]string{"plan": "x"} })}, warpket.Resources{GPUs: 1, Labels: map[string]string{"plan": "x"}}, "", nil, warpket.NoCapacity, never},
		"a fleet may have nothing else":                       {[]warpket.Node{planned}, warpket.Resources{GPUs: 2}, "planned", []string{"planned-0", "planned-1"}, "", "simulated"},
		"a state that only a declared simulator holds":        {[]warpket.Node{laptop, declared}, warpket.Resources{Qubits: 34}, "declared", []string{"big"}, "", "declared has the simulator big with 128 cores and 1048576 MiB free"},
		"one that real memory holds is real":                  {[]warpket.Node{declared, laptop}, warpket.Resources{Qubits: 20}, "declared", nil, "", ""},
		"and waits where that is taken":                       {[]warpket.Node{change(declared, func(n *warpket.Node) { n.MemoryLeased = 16 * gib })}, warpket.Resources{Qubits: 20}, "", nil, warpket.NoCapacity, "declared has 0 MiB of memory free"},
		"a declared simulator by its ID":                      {[]warpket.Node{laptop, declared}, warpket.Resources{Device: "big"}, "declared", []string{"big"}, "", "simulated"},
		"a real one by its ID":                                {[]warpket.Node{declared}, warpket.Resources{Device: "simulator", Qubits: 20}, "declared", nil, "", ""},
		"a declared one is held alone":                        {[]warpket.Node{laptop, held}, warpket.Resources{Device: "big"}, "", nil, warpket.NoCapacity, "declared has 0 of 1 free"},
		"and may be faulty":                                   {[]warpket.Node{faulty}, warpket.Resources{Device: "big"}, "", nil, warpket.NoCapacity, "big is faulty: off"},
		"its cores and memory bound what it takes":            {[]warpket.Node{declared}, warpket.Resources{Device: "big", CPU: 200_000}, "", nil, warpket.Invalid, "has no device big"},
		"the most that a simulation may have is its memory":   {[]warpket.Node{laptop, declared}, warpket.Resources{Qubits: 38}, "", nil, warpket.Invalid, "declared, 1099511627776 bytes (1 TiB)"},
		"no real memory of its node is taken, so none is due": {[]warpket.Node{change(declared, func(n *warpket.Node) { n.MemoryLeased, n.CPULeased = 16*gib, 8000 })}, warpket.Resources{Qubits: 34}, "declared", []string{"big"}, "", "simulated"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Place(tt.fleet, asks(tt.need))
			if warpket.KindOf(err) != tt.kind || d.NodeName != tt.node {
				t.Fatalf("placed on %q with error %v", d.NodeName, err)
			}
			if diff := cmp.Diff(tt.devices, d.Devices); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(d.Reason, tt.says) || tt.says == "" && strings.Contains(d.Reason, "simulated") {
				t.Errorf("said %q, without %q", d.Reason, tt.says)
			}
			if err != nil && strings.Contains(d.Reason, "on planned") {
				t.Errorf("%q leads to what runs nothing", d.Reason)
			}
		})
	}
}

func TestADeclaredSimulatorIsTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	fleet := New([]warpket.Node{declares(simulates(machine("n", 8_000, 16*gib), allMethods...), "big", 128, 1024*gib, allMethods...)})
	before := fleet.Clone()
	large := asks(warpket.Resources{Qubits: 34})
	for range 2 {
		d, ok := fleet.Try(large)
		if !ok || !slices.Equal(d.Devices, []string{"big"}) {
			t.Fatalf("placed %+v", d)
		}
		large.Resources.Memory = 257 * gib
		fleet.Take(d.NodeID, large.Resources, d.Devices)
		if _, ok := fleet.Try(large); ok {
			t.Error("it has two holders")
		}
		if _, ok := fleet.Try(asks(warpket.Resources{CPU: 8000, Memory: 16 * gib})); !ok {
			t.Error("it takes the room of its node")
		}
		fleet.Give(d.NodeID, large.Resources, d.Devices)
	}
	if diff := cmp.Diff(before, fleet, cmp.AllowUnexported(Fleet{}, group{}, verdict{}, node{}, device{}, simulator{}, Shape{}, state{})); diff != "" {
		t.Error(diff)
	}
}

// A random fleet and random requests, placed and ended in any order.
func TestNoDeviceIsPlacedTwiceAndWhatFitsIsPlaced(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		var nodes []warpket.Node
		for i := range 1 + random.IntN(6) {
			n := machine(string(rune('a'+i)), 1000*(1+random.IntN(32)), int64(1+random.IntN(64))*gib)
			n = gpus(n, random.IntN(5), int64(1+random.IntN(4))*20*gib, func(d *warpket.Device) {
				if random.IntN(8) == 0 {
					d.Fault = "Xid"
				}
			})
			if random.IntN(3) == 0 {
				n = cut(n, []string{"1g.10gb", "1g.10gb", "3g.40gb"}[:random.IntN(4)]...)
			}
			n.Live, n.Cordoned = random.IntN(8) > 0, random.IntN(8) == 0
			nodes = append(nodes, n)
		}
		fleet := New(nodes)
		type slot struct {
			node    warpket.ID
			r       warpket.Resources
			devices []string
		}
		var slots []slot
		for range 80 {
			if len(slots) > 0 && random.IntN(3) == 0 {
				i := random.IntN(len(slots))
				fleet.Give(slots[i].node, slots[i].r, slots[i].devices)
				slots = slices.Delete(slots, i, i+1)
			}
			r := asks(warpket.Resources{CPU: 100 * (1 + random.IntN(30)), Memory: int64(1+random.IntN(4000)) << 20})
			switch random.IntN(3) {
			case 0:
				r.Resources.GPUs, r.Resources.GPUMemory = 1+random.IntN(4), int64(random.IntN(60))*gib
			case 1:
				r.Resources.GPUs, r.Resources.MIGProfile = 1, []string{"1g.10gb", "3g.40gb"}[random.IntN(2)]
			}
			// What is true of the fleet, from the slots alone.
			state := make([]warpket.Node, len(nodes))
			for i, n := range nodes {
				for _, s := range slots {
					if s.node == n.ID {
						n.CPULeased += s.r.CPU
						n.MemoryLeased += s.r.Memory
						n.DevicesLeased = append(n.DevicesLeased, s.devices...)
					}
				}
				state[i] = n
			}
			d, err := fleet.Place(r)
			again, errAgain := Place(state, r)
			if diff := cmp.Diff(again, d); diff != "" || warpket.KindOf(err) != warpket.KindOf(errAgain) {
				t.Fatalf("kept current and read anew, the fleet decides differently: %s %v %v", diff, err, errAgain)
			}
			fits := slices.ContainsFunc(state, func(n warpket.Node) bool { return canHold(n, r.Resources) })
			if fits != (err == nil) {
				t.Fatalf("something fits: %v, but the answer is %v", fits, err)
			}
			if err != nil {
				continue
			}
			i := slices.IndexFunc(state, func(n warpket.Node) bool { return n.ID == d.NodeID })
			if len(d.Devices) != r.Resources.GPUs || !canHold(state[i], r.Resources) {
				t.Fatalf("placed %+v on %+v", r.Resources, state[i])
			}
			for _, id := range d.Devices {
				if slices.Contains(state[i].DevicesLeased, id) {
					t.Fatalf("device %s has two holders", id)
				}
			}
			slots = append(slots, slot{d.NodeID, r.Resources, d.Devices})
			fleet.Take(d.NodeID, r.Resources, d.Devices)
		}
	}
}

// canHold is the rule, written another way.
func canHold(n warpket.Node, r warpket.Resources) bool {
	free := 0
	for _, d := range n.Inventory.Devices {
		if d.Kind == warpket.NVIDIA && d.Leasable() && d.MIGProfile == r.MIGProfile && d.Memory >= r.GPUMemory && !slices.Contains(n.DevicesLeased, d.ID) {
			free++
		}
	}
	return n.Live && !n.Cordoned && n.CPULeased+r.CPU <= n.Inventory.CPU && n.MemoryLeased+r.Memory <= n.Inventory.Memory && free >= r.GPUs
}

func TestAChangeOfACloneIsNoneOfTheFleet(t *testing.T) {
	t.Parallel()
	fleet := New([]warpket.Node{gpus(machine("a", 8000, 8*gib), 2, 80*gib)})
	before := fleet.Clone()
	clone := fleet.Clone()
	clone.Take("a", warpket.Resources{CPU: 8000, GPUs: 2}, []string{"a-0", "a-1"})
	if _, ok := clone.Try(asks(warpket.Resources{GPUs: 1})); ok {
		t.Error("the clone has room")
	}
	if diff := cmp.Diff(before, fleet, cmp.AllowUnexported(Fleet{}, group{}, verdict{}, node{}, device{}, simulator{}, Shape{}, state{})); diff != "" {
		t.Error(diff)
	}
}
