package warpket_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

const gib = int64(1) << 30

func TestResourcesOrFillsWhatIsOpen(t *testing.T) {
	t.Parallel()
	function := warpket.Resources{
		CPU: 1, Memory: 2, Timeout: 3, GPUs: 4, GPUMemory: 5, MIGProfile: "1g.10gb", ComputeCapability: "8.0", CUDA: "13.0", Device: "d", Qubits: 6, Method: warpket.Stabilizer,
		Labels: map[string]string{"zone": "a"}, Spread: warpket.PreferSpread, Isolation: "gvisor", Priority: 7,
	}
	if diff := cmp.Diff(function, warpket.Resources{}.Or(function)); diff != "" {
		t.Errorf("nothing set: %s", diff)
	}
	own := warpket.Resources{CPU: 250, GPUs: 2, Labels: map[string]string{}, Priority: -1}
	want := function
	want.CPU, want.GPUs, want.Labels, want.Priority = 250, 2, map[string]string{}, -1
	if diff := cmp.Diff(want, own.Or(function)); diff != "" {
		t.Error(diff)
	}
}

func TestResourcesCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*warpket.Resources)
		field  string // "" means allowed
	}{
		"all of it": {func(r *warpket.Resources) {
			r.GPUs, r.GPUMemory, r.MIGProfile, r.ComputeCapability, r.CUDA, r.Qubits, r.Method = 2, gib, "1g.10gb+me", "9.0", "13.2", 30, warpket.DensityMatrix
			r.Labels, r.Spread, r.Isolation, r.Priority = map[string]string{"zone/a": "b.c", "empty": ""}, warpket.RequireSpread, "gvisor", -100
		}, ""},
		"too many GPUs":          {func(r *warpket.Resources) { r.GPUs = 65 }, "gpus"},
		"fewer than no GPUs":     {func(r *warpket.Resources) { r.GPUs = -1 }, "gpus"},
		"negative GPU memory":    {func(r *warpket.Resources) { r.GPUMemory = -1 }, "gpuMemory"},
		"no MIG profile":         {func(r *warpket.Resources) { r.MIGProfile = "0g.10gb" }, "migProfile"},
		"no capability":          {func(r *warpket.Resources) { r.ComputeCapability = "nine" }, "computeCapability"},
		"no CUDA version":        {func(r *warpket.Resources) { r.CUDA = "13" }, "cuda"},
		"a device of two lines":  {func(r *warpket.Resources) { r.Device = "a\nb" }, "device"},
		"one device and two":     {func(r *warpket.Resources) { r.Device, r.GPUs = "GPU-1", 2 }, "device"},
		"too many qubits":        {func(r *warpket.Resources) { r.Qubits = 4097 }, "qubits"},
		"no method":              {func(r *warpket.Resources) { r.Method = "automatic" }, "method"},
		"no spread":              {func(r *warpket.Resources) { r.Spread = "wide" }, "spread"},
		"no isolation":           {func(r *warpket.Resources) { r.Isolation = "docker" }, "isolation"},
		"too high a priority":    {func(r *warpket.Resources) { r.Priority = 101 }, "priority"},
		"a label with a space":   {func(r *warpket.Resources) { r.Labels = map[string]string{"a b": "c"} }, "labels"},
		"a label without a name": {func(r *warpket.Resources) { r.Labels = map[string]string{"": "c"} }, "labels"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := warpket.DefaultResources
			test.change(&r)
			err := r.Check()
			if test.field == "" {
				wantKind(t, err, "")
				return
			}
			wantKind(t, err, warpket.Invalid)
			if e, ok := err.(*warpket.Error); ok && e.Field != "resources."+test.field { //nolint:errorlint // it is not wrapped
				t.Errorf("the error is about %q", e.Field)
			}
		})
	}
}

func TestATargetDecidesWhetherThereAreGPUs(t *testing.T) {
	t.Parallel()
	function := warpket.DefaultResources
	function.GPUs, function.GPUMemory = 2, 10*gib
	r, err := function.For(warpket.GPU, warpket.Resources{})
	if err != nil || r.GPUs != 2 {
		t.Errorf("the function's GPUs are %d, %v", r.GPUs, err)
	}
	r, err = warpket.DefaultResources.For(warpket.GPU, warpket.Resources{})
	if err != nil || r.GPUs != 1 {
		t.Errorf("the target gpu takes %d, %v", r.GPUs, err)
	}
	r, err = function.For(warpket.Sim, warpket.Resources{})
	if err != nil || r.GPUs != 0 || r.GPUMemory != 0 {
		t.Errorf("the target sim takes %d with %d bytes, %v", r.GPUs, r.GPUMemory, err)
	}
	_, err = function.For(warpket.Sim, warpket.Resources{GPUs: 1})
	wantKind(t, err, warpket.Invalid)
	slice := warpket.DefaultResources
	slice.MIGProfile = "1g.10gb"
	r, err = slice.For(warpket.CPU, slice)
	if err != nil || r.GPUs != 1 {
		t.Errorf("who asks for a profile gets %d, %v", r.GPUs, err)
	}
}

func TestASimulationGetsTheMemoryThatItNeeds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method warpket.Method
		qubits int
		bytes  int64
	}{
		"a statevector has 16 bytes an amplitude": {warpket.Statevector, 34, 274877906944},
		"one qubit": {warpket.Statevector, 1, 32},
		"a density matrix is a statevector of twice it": {warpket.DensityMatrix, 17, 274877906944},
		"a tableau grows with the square":               {warpket.Stabilizer, 1000, (2001*2001 + 7) / 8},
		"a product of three":                            {warpket.MatrixProductState, 3, 32 * (2 + 4 + 2)},
		"what no integer holds is the largest":          {warpket.Statevector, 60, 1<<63 - 1},
		"so is the largest that may be asked":           {warpket.DensityMatrix, warpket.MaxQubits, 1<<63 - 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.method.Memory(test.qubits); got != test.bytes {
				t.Errorf("%d bytes, want %d", got, test.bytes)
			}
		})
	}
	for n := 1; n <= warpket.MaxQubits; n++ { // never more than a full bond at each qubit
		if got := warpket.MatrixProductState.Memory(n); got <= 0 || got > int64(n)*32*warpket.MaxBond*warpket.MaxBond {
			t.Fatalf("%d qubits: %d bytes", n, got)
		}
	}
	r := warpket.DefaultResources
	r.Qubits = 30
	r, err := r.For(warpket.Simulator, warpket.Resources{})
	if err != nil || r.Method != warpket.Statevector || r.Memory != 16*gib+256<<20 {
		t.Errorf("30 qubits get %d bytes as a %s, %v", r.Memory, r.Method, err)
	}
	r, err = r.For(warpket.GPU, warpket.Resources{})
	if err != nil || r.GPUMemory != 16*gib {
		t.Errorf("30 qubits get %d bytes on the GPU, %v", r.GPUMemory, err)
	}
	r.Qubits = 60
	_, err = r.For(warpket.Simulator, warpket.Resources{})
	wantKind(t, err, warpket.Invalid)
	for _, says := range []string{"18446744073709551616 bytes", "stabilizer (1831 bytes (1.788 KiB), Clifford circuits only)", "matrix_product_state"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q does not say %q", err, says)
		}
	}
}

func TestASlotCoversWhatItWasLeasedForAndLess(t *testing.T) {
	t.Parallel()
	slot := warpket.Resources{
		CPU: 1000, Memory: gib, Timeout: time.Second, GPUs: 2, GPUMemory: 40 * gib, ComputeCapability: "9.0", CUDA: "13.0", Method: warpket.Statevector,
		Labels: map[string]string{"zone": "a", "rack": "1"}, Isolation: "namespaces", Priority: 3,
	}
	tests := map[string]struct {
		change func(*warpket.Resources)
		want   bool
	}{
		"the same":               {func(*warpket.Resources) {}, true},
		"another timeout":        {func(r *warpket.Resources) { r.Timeout = time.Hour }, true},
		"less":                   {func(r *warpket.Resources) { r.CPU, r.GPUs, r.ComputeCapability = 1, 1, "8.10" }, true},
		"fewer labels":           {func(r *warpket.Resources) { r.Labels = map[string]string{"zone": "a"} }, true},
		"no GPU":                 {func(r *warpket.Resources) { r.GPUs, r.GPUMemory, r.ComputeCapability = 0, 0, "" }, true},
		"another label":          {func(r *warpket.Resources) { r.Labels = map[string]string{"zone": "b"} }, false},
		"more memory":            {func(r *warpket.Resources) { r.Memory++ }, false},
		"more GPUs":              {func(r *warpket.Resources) { r.GPUs = 3 }, false},
		"larger GPUs":            {func(r *warpket.Resources) { r.GPUMemory++ }, false},
		"slices":                 {func(r *warpket.Resources) { r.MIGProfile = "1g.10gb" }, false},
		"newer GPUs":             {func(r *warpket.Resources) { r.ComputeCapability = "10.0" }, false},
		"a newer driver":         {func(r *warpket.Resources) { r.CUDA = "13.1" }, false},
		"one device":             {func(r *warpket.Resources) { r.Device = "GPU-1" }, false},
		"stronger isolation":     {func(r *warpket.Resources) { r.Isolation = "gvisor" }, false},
		"another method, no GPU": {func(r *warpket.Resources) { r.GPUs, r.Method = 0, warpket.Stabilizer }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := slot
			test.change(&other)
			if got := slot.Cover(other); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
