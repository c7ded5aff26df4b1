package warpket

import (
	"strings"
	"unicode"
)

// Device is what a slot may need: a GPU, a slice of one, or a simulator.
type Device struct {
	ID                string     `json:"id"` // unique on its node; an NVIDIA UUID for a GPU or a slice
	Kind              DeviceKind `json:"kind"`
	Name              string     `json:"name"`
	Memory            int64      `json:"memory"`                      // bytes
	ComputeCapability string     `json:"computeCapability,omitempty"` // "9.0"; GPUs only
	DriverVersion     string     `json:"driverVersion,omitempty"`     // GPUs only
	CUDAVersion       string     `json:"cudaVersion,omitempty"`       // highest that the driver takes, "13.0"; GPUs only
	Methods           []string   `json:"methods,omitempty"`           // simulators only
	Cores             int        `json:"cores,omitempty"`             // simulators only
	MIGProfile        string     `json:"migProfile,omitempty"`        // "1g.10gb"; slices of a GPU only
	ParentID          string     `json:"parentId,omitempty"`          // of the GPU that a slice is of
	MIGEnabled        bool       `json:"migEnabled,omitempty"`        // the GPU is cut into slices: these are leased, it is not
	Fault             string     `json:"fault,omitempty"`             // why it gets no slot, such as an Xid error; empty when sound
	Simulated         bool       `json:"simulated,omitempty"`         // declared, not found: it runs no code
	Speed             []Speed    `json:"speed,omitempty"`             // simulators, by rising qubits; empty until it is measured
}

// Speed is how fast a simulator was when it was measured.
type Speed struct {
	Qubits         int     `json:"qubits"`
	GatesPerSecond float64 `json:"gatesPerSecond"`
}

// Leasable reports whether a slot may hold the device.
func (d Device) Leasable() bool { return d.Fault == "" && !d.MIGEnabled }

// DeviceKind is what sort of device it is.
type DeviceKind string

// The kinds of devices.
const (
	NVIDIA           DeviceKind = "gpu"
	QuantumSimulator DeviceKind = "simulator"
)

// CheckDevices refuses what no node has.
func CheckDevices(devices []Device) error {
	const most, longest = 4096, 128
	if len(devices) > most {
		return Errorf(Invalid, "a node has at most %d devices, not %d", most, len(devices))
	}
	for _, d := range devices {
		if d.ID == "" || len(d.ID) > longest || strings.ContainsFunc(d.ID, unicode.IsControl) {
			return Errorf(Invalid, "%.200q cannot be the ID of a device: up to %d characters, no control characters", d.ID, longest)
		}
	}
	return nil
}

// Load is what a GPU is doing. It changes all the time, so it is kept apart from
// what the device is. A field that the driver does not tell is zero.
type Load struct {
	MemoryUsed     int64    `json:"memoryUsed"`               // bytes
	MemoryFree     int64    `json:"memoryFree"`               // bytes
	Utilisation    int      `json:"utilisation"`              // percent of the time in which it computed, in the driver's last sample
	Temperature    int      `json:"temperature,omitempty"`    // degrees Celsius
	Power          float64  `json:"power,omitempty"`          // watts
	PowerLimit     float64  `json:"powerLimit,omitempty"`     // watts
	Throttled      []string `json:"throttled,omitempty"`      // why its clocks are below what they could be
	Processes      int      `json:"processes"`                // that compute on it
	MPS            bool     `json:"mps,omitempty"`            // whether processes share it through NVIDIA's MPS
	ECCCorrected   int64    `json:"eccCorrected,omitempty"`   // memory errors since the driver was loaded
	ECCUncorrected int64    `json:"eccUncorrected,omitempty"` // memory errors since the driver was loaded
}

// NodeDevice is a device with the node that has it, and who holds it.
type NodeDevice struct {
	Device
	NodeID   ID
	NodeName string
	Free     bool   // whether a slot may be placed on it now
	Load     *Load  // nil when nobody has told
	Holder   *Slot  // nil when no slot holds it
	Function string // name of the holder's function
}
