//go:build cgo

package accelerators

import (
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"

	"github.com/warpket/warpket"
)

// standIn is a machine of go-nvml's, with the calls that it leaves out.
//
//nolint:staticcheck // the types are deprecated, but nothing else is offered by name
func standIn() *dgxa100.Server {
	server := dgxa100.New()
	for _, d := range server.Devices {
		gpu := d.(*dgxa100.Device)
		gpu.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 40 << 30}, nvml.SUCCESS }
	}
	return server
}

func TestProbeReadsEveryGPUOfAMachine(t *testing.T) {
	t.Parallel()
	devices, err := probe(standIn())
	if err != nil {
		t.Fatal(err)
	}
	if len(devices) != 8 {
		t.Fatalf("found %d GPUs of 8", len(devices))
	}
	seen := map[string]bool{}
	for _, d := range devices {
		if d.Kind != warpket.NVIDIA || d.ComputeCapability != "8.0" || d.Memory != 40<<30 || !strings.Contains(d.Name, "A100") || d.CUDAVersion == "" || d.DriverVersion == "" {
			t.Errorf("read %+v", d)
		}
		if seen[d.ID] {
			t.Errorf("two GPUs have the ID %s", d.ID)
		}
		seen[d.ID] = true
	}
}

func TestProbeSaysInWordsWhyThereIsNoGPU(t *testing.T) {
	t.Parallel()
	missing := &mock.Interface{InitFunc: func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }}
	_, err := probe(missing)
	if err == nil || !strings.Contains(err.Error(), "driver's library") {
		t.Errorf("got %v", err)
	}
}
