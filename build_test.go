package warpket_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestVersionsAreCompiledForTheGPUsThatThereAre(t *testing.T) {
	t.Parallel()
	with := func(capabilities ...string) (n warpket.Node) {
		for _, c := range capabilities {
			n.Inventory.Devices = append(n.Inventory.Devices, warpket.Device{Kind: warpket.NVIDIA, ComputeCapability: c})
		}
		return n
	}
	simulator := warpket.Node{Inventory: warpket.Inventory{Devices: []warpket.Device{{Kind: warpket.QuantumSimulator}}}}
	for name, tt := range map[string]struct {
		fleet []warpket.Node
		want  []string
	}{
		"without GPUs, for the usual ones":          {[]warpket.Node{simulator}, []string{"8.0", "9.0"}},
		"each once, in order":                       {[]warpket.Node{with("9.0", "10.0", "9.0"), with("8.6")}, []string{"8.6", "9.0", "10.0"}},
		"what no toolkit knows is left to drivers":  {[]warpket.Node{with("9.0", "99.0")}, []string{"9.0"}},
		"what toolkits no longer know is left out":  {[]warpket.Node{with("6.1", "8.0")}, []string{"8.0"}},
		"with nothing that is known, the usual too": {[]warpket.Node{with("6.1")}, []string{"8.0", "9.0"}},
	} {
		if diff := cmp.Diff(tt.want, warpket.Architectures(tt.fleet)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOnlyABuildThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	for status, want := range map[warpket.BuildStatus]warpket.Kind{warpket.BuildPending: "", warpket.BuildSucceeded: "", warpket.BuildFails: warpket.Invalid} {
		if got := warpket.KindOf(warpket.Build{Status: status, Message: "main.cu(1): error"}.Err()); got != want {
			t.Errorf("%s is %q, want %q", status, got, want)
		}
	}
}
