package accelerators

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestDeclaredDevicesAreThoseOfTheFile(t *testing.T) {
	t.Parallel()
	got, err := parseSimulated([]byte(`
devices:
  - {name: A100, memory: 40 GiB, computeCapability: "8.0", cudaVersion: "13.0", driverVersion: 580.65.06, count: 2}
  - {name: H100, memory: 80GiB, computeCapability: "9.0", cudaVersion: "13.0", driverVersion: 580.65.06, mig: [1g.10gb, 3g.40gb]}
  - {kind: simulator, name: big, memory: 1 TiB, cores: 128, methods: [statevector]}
`))
	if err != nil {
		t.Fatal(err)
	}
	const gib = 1 << 30
	a100 := warpket.Device{ID: "simulated-gpu-0", Kind: warpket.NVIDIA, Name: "A100", Memory: 40 * gib, ComputeCapability: "8.0", CUDAVersion: "13.0", DriverVersion: "580.65.06", Simulated: true}
	other := a100
	other.ID = "simulated-gpu-1"
	h100 := a100
	h100.ID, h100.Name, h100.Memory, h100.ComputeCapability, h100.MIGEnabled = "simulated-gpu-2", "H100", 80*gib, "9.0", true
	small, large := h100, h100
	small.ID, small.ParentID, small.MIGProfile, small.Memory, small.MIGEnabled = "simulated-gpu-2-mig-0", h100.ID, "1g.10gb", 10*gib, false
	large.ID, large.ParentID, large.MIGProfile, large.Memory, large.MIGEnabled = "simulated-gpu-2-mig-1", h100.ID, "3g.40gb", 40*gib, false
	simulator := warpket.Device{ID: "simulated-simulator-0", Kind: warpket.QuantumSimulator, Name: "big", Memory: 1 << 40, Cores: 128, Methods: []string{"statevector"}, Simulated: true}
	if diff := cmp.Diff([]warpket.Device{a100, other, h100, small, large, simulator}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheExampleOfDeclaredDevicesCanBeRead(t *testing.T) {
	t.Parallel()
	devices, err := ReadSimulated("../docs/examples/simulated-devices.yaml")
	if err != nil || len(devices) < 3 {
		t.Errorf("it has %d devices: %v", len(devices), err)
	}
}

func TestWrongDeclarationsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	gpu := func(more string) string {
		return `{"devices": [{"name": "H100", "memory": "80 GiB", "computeCapability": "9.0", "cudaVersion": "13.0", "driverVersion": "580.1"` + more + `}]}`
	}
	if _, err := parseSimulated([]byte(gpu(""))); err != nil {
		t.Fatalf("JSON is refused: %v", err)
	}
	for text, says := range map[string]string{
		"":                                     `list them under "devices"`,
		"devices: []":                          `list them under "devices"`,
		"devices: 7":                           "cannot unmarshal",
		gpu(`, "memroy": 1`):                   "memroy",
		gpu(`, "count": 0`):                    "from 1 to 1024",
		gpu(`, "count": 1025`):                 "from 1 to 1024",
		gpu(`, "mig": ["8g.80gb"]`):            "1g.10gb",
		gpu(`, "mig": ["4g.40gb", "4g.40gb"]`): "more than the GPU has",
		gpu(`, "mig": ["1g.100gb"]`):           "more than the GPU has",
		gpu(`, "cores": 2`):                    "of simulators",
		gpu(`, "kind": "tpu"`):                 "gpu or simulator",
		`{"devices": [{"name": "x"}]}`:         "memory is a number",
		`{"devices": [{"memory": "1 GiB"}]}`:   "name has",
		`{"devices": [{"name": "x", "memory": "1 GiB", "computeCapability": "nine"}]}`:                         "is a version",
		`{"devices": [{"kind": "simulator", "name": "x", "memory": "1 GiB"}]}`:                                 "cores is from",
		`{"devices": [{"kind": "simulator", "name": "x", "memory": "1 GiB", "cores": 2, "mig": ["1g.10gb"]}]}`: "of GPUs",
	} {
		if _, err := parseSimulated([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: said %v, without %q", text, err, says)
		}
	}
	if _, err := ReadSimulated("nonesuch"); err == nil {
		t.Error("a file that there is not was read")
	}
}
