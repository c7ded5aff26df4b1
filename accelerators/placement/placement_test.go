package placement

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func machine(name string, cpu int, memory int64) warpket.Node {
	return warpket.Node{ID: warpket.ID(name), Name: name, Live: true, Inventory: warpket.Inventory{Platform: "linux/amd64", CPU: cpu, Memory: memory, Pythons: []string{"3.11"}}}
}

func need(cpu int, memory int64) Request {
	return Request{Resources: warpket.Resources{CPU: cpu, Memory: memory}, Platform: "linux/amd64", Python: "3.11"}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	small, large := machine("small", 2000, 4*gib), machine("large", 8000, 64*gib)
	cordoned, silent := small, small
	cordoned.Cordoned, cordoned.Name = true, "cordoned"
	silent.Live, silent.Name = false, "silent"
	full := small
	full.CPULeased, full.Name = 2000, "full"
	runsImages := large
	runsImages.Inventory.Images = true
	apart := large
	apart.Inventory.Isolation = warpket.Isolation{Kind: "namespaces", UID: "own"}
	untrusted := Request{Resources: warpket.Resources{CPU: 1}, Isolated: true}
	closed := large
	closed.Inventory.NoEgress, closed.Inventory.Isolation.Kind, closed.Name = true, "gvisor", "closed"
	reaching := need(1000, gib)
	reaching.Resources.Network = warpket.Egress
	image := Request{Resources: warpket.Resources{CPU: 1}, Images: true}
	tests := map[string]struct {
		fleet []warpket.Node
		need  Request
		node  string
		kind  warpket.Kind
		says  string
	}{
		"a small request goes where it leaves least":                     {[]warpket.Node{large, small}, need(1000, gib), "small", "", "small has 2 cores"},
		"a large request goes where it fits":                             {[]warpket.Node{small, large}, need(4000, gib), "large", "", ""},
		"a cordoned node gets nothing":                                   {[]warpket.Node{cordoned}, need(1000, gib), "", warpket.NoCapacity, "cordoned is cordoned"},
		"a silent node gets nothing":                                     {[]warpket.Node{silent}, need(1000, gib), "", warpket.NoCapacity, "silent is silent"},
		"a full node is named with what it has":                          {[]warpket.Node{full}, need(1000, gib), "", warpket.NoCapacity, "full has 0 cores free"},
		"what no node could ever hold is invalid":                        {[]warpket.Node{small}, need(1000, 100*gib), "", warpket.Invalid, "even when empty"},
		"without nodes the message says how to start one":                {nil, need(1000, gib), "", warpket.NoCapacity, "warpket node"},
		"a node without the Python is refused":                           {[]warpket.Node{small}, Request{Resources: warpket.Resources{CPU: 1}, Python: "3.13"}, "", warpket.Invalid, "has no Python 3.13"},
		"an image goes where images are run":                             {[]warpket.Node{small, runsImages}, image, "large", "", ""},
		"what is not trusted goes where isolation is complete":           {[]warpket.Node{small, apart}, untrusted, "large", "", ""},
		"what is not trusted is refused where isolation is not complete": {[]warpket.Node{small}, untrusted, "", warpket.Invalid, "small does not keep programs apart completely"},
		"what needs a network goes where functions have one":             {[]warpket.Node{closed, small}, reaching, "small", "", ""},
		"what needs a network is refused where functions have none":      {[]warpket.Node{closed}, reaching, "", warpket.Invalid, "closed has no network for functions (isolation gvisor"},
		"what needs no network goes anywhere":                            {[]warpket.Node{closed}, need(1000, gib), "closed", "", ""},
		"an image is refused where none are run":                         {[]warpket.Node{small}, image, "", warpket.Invalid, "small cannot run images"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Place(tt.fleet, tt.need)
			if warpket.KindOf(err) != tt.kind || d.NodeName != tt.node {
				t.Fatalf("placed on %q with error %v", d.NodeName, err)
			}
			text := d.Reason
			if err != nil {
				text = err.Error()
			}
			if !strings.Contains(text, tt.says) {
				t.Errorf("said %q, without %q", text, tt.says)
			}
		})
	}
}

func TestPlaceNeverOvercommitsAndFillsWhatFits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		fleet := make([]warpket.Node, 1+random.IntN(6))
		for i := range fleet {
			fleet[i] = machine(string(rune('a'+i)), 1000*(1+random.IntN(8)), int64(1+random.IntN(16))<<30)
		}
		for range 40 {
			r := need(100*(1+random.IntN(30)), int64(1+random.IntN(4000))<<20)
			d, err := Place(fleet, r)
			fits := false
			for i := range fleet {
				n := &fleet[i]
				fits = fits || n.CPULeased+r.Resources.CPU <= n.Inventory.CPU && n.MemoryLeased+r.Resources.Memory <= n.Inventory.Memory
				if err == nil && n.ID == d.NodeID {
					n.CPULeased += r.Resources.CPU
					n.MemoryLeased += r.Resources.Memory
					if n.CPULeased > n.Inventory.CPU || n.MemoryLeased > n.Inventory.Memory {
						t.Fatalf("overcommitted %+v", n)
					}
				}
			}
			if fits != (err == nil) {
				t.Fatalf("something fits: %v, but the answer is %v", fits, err)
			}
		}
	}
}
