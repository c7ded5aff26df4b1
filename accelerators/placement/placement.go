// Package placement decides which node gets a slot, and says why. It is pure:
// the fleet and a request go in, a decision comes out; the caller commits it
// and places again if somebody was faster.
package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warpket/warpket"
)

// Request is what a slot needs.
type Request struct {
	Resources warpket.Resources
	Platform  string // of the runtime, "linux/amd64"
	Python    string // minor that the node must have; empty for none
	Images    bool   // whether the node must be able to run images
	Isolated  bool   // whether its isolation must be complete, see warpket.Isolation
}

// Decision is where a slot goes.
type Decision struct {
	Node   warpket.Node
	Reason string
}

// Place picks the node on which the least is left over, so that large requests
// find room elsewhere; the oldest node wins a tie. When none fits, the error
// is NoCapacity and says for each node what is missing. It is Invalid when no
// node of the fleet could hold the request even if it were empty.
func Place(fleet []warpket.Node, r Request) (Decision, error) {
	var best *warpket.Node
	var refusals []string
	possible := len(fleet) == 0
	for i := range fleet {
		n := &fleet[i]
		if why := misfit(n, r, n.CPULeased, n.MemoryLeased); why != "" {
			refusals = append(refusals, n.Name+" "+why)
			possible = possible || !n.Live || n.Cordoned || misfit(n, r, 0, 0) == ""
			continue
		}
		if best == nil || left(n, r) < left(best, r) {
			best = n
		}
	}
	if best == nil {
		return Decision{}, refuse(r, refusals, possible)
	}
	reason := fmt.Sprintf("%s has %s; least is left over there among %d of %d nodes that fit", best.Name, free(best), len(fleet)-len(refusals), len(fleet))
	return Decision{*best, reason}, nil
}

// misfit says why a node with so much leased cannot hold the request; empty
// when it can.
func misfit(n *warpket.Node, r Request, cpuLeased int, memoryLeased int64) string {
	has := n.Inventory
	switch {
	case !n.Live:
		return "is silent"
	case n.Cordoned:
		return "is cordoned"
	case r.Platform != "" && has.Platform != r.Platform:
		return fmt.Sprintf("is %s, not %s", has.Platform, r.Platform)
	case r.Python != "" && !slices.Contains(has.Pythons, r.Python):
		return "has no Python " + r.Python
	case r.Images && !has.Images:
		return fmt.Sprintf("cannot run images (isolation %s; they need namespaces or gvisor)", has.Isolation.Kind)
	case r.Isolated && !has.Isolation.Complete():
		return fmt.Sprintf("does not keep programs apart completely (isolation %s)", has.Isolation)
	case has.CPU-cpuLeased < r.Resources.CPU:
		return fmt.Sprintf("has %s cores free", cores(has.CPU-cpuLeased))
	case has.Memory-memoryLeased < r.Resources.Memory:
		return fmt.Sprintf("has %s of memory free", mib(has.Memory-memoryLeased))
	}
	return ""
}

// left is the share of a node that stays free, by its scarcer resource.
func left(n *warpket.Node, r Request) float64 {
	cpu := float64(n.Inventory.CPU-n.CPULeased-r.Resources.CPU) / float64(max(n.Inventory.CPU, 1))
	memory := float64(n.Inventory.Memory-n.MemoryLeased-r.Resources.Memory) / float64(max(n.Inventory.Memory, 1))
	return min(cpu, memory)
}

func refuse(r Request, refusals []string, possible bool) error {
	need := fmt.Sprintf("needs %s cores and %s of memory", cores(r.Resources.CPU), mib(r.Resources.Memory))
	if r.Python != "" {
		need += " with Python " + r.Python
	}
	if r.Images {
		need += " on a node that runs images"
	}
	if r.Isolated {
		need += " on a node whose isolation is complete, for its runtime is not trusted"
	}
	if len(refusals) == 0 {
		return warpket.Errorf(warpket.NoCapacity, "%s; no node has joined: start one with \"warpket node\"", need)
	}
	const shown = 5
	if more := len(refusals) - shown; more > 0 {
		refusals = append(refusals[:shown:shown], fmt.Sprintf("and %d more", more))
	}
	list := strings.Join(refusals, "; ")
	if !possible {
		return warpket.Errorf(warpket.Invalid, "%s, which no node has even when empty: %s", need, list)
	}
	return warpket.Errorf(warpket.NoCapacity, "%s: %s", need, list)
}

func free(n *warpket.Node) string {
	return fmt.Sprintf("%s cores and %s free", cores(n.Inventory.CPU-n.CPULeased), mib(n.Inventory.Memory-n.MemoryLeased))
}

func cores(thousandths int) string { return fmt.Sprintf("%g", float64(thousandths)/1000) }

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
