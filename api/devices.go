package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Device is what a slot may need.
type Device struct {
	ID                string   `json:"id" doc:"Unique on its node; the UUID of an NVIDIA GPU or of a slice of one"`
	Node              string   `json:"node" doc:"Name of its node"`
	Kind              string   `json:"kind" enum:"gpu,simulator" doc:"What sort of device it is"`
	Name              string   `json:"name" doc:"Model"`
	Memory            int64    `json:"memory" doc:"Bytes"`
	Leased            bool     `json:"leased" doc:"Whether a slot holds it alone"`
	Free              bool     `json:"free" doc:"Whether a slot may be placed on it now"`
	ComputeCapability string   `json:"computeCapability,omitempty" doc:"Of a GPU" example:"9.0"`
	DriverVersion     string   `json:"driverVersion,omitempty" doc:"Of a GPU"`
	CUDAVersion       string   `json:"cudaVersion,omitempty" doc:"Highest that a GPU's driver takes" example:"13.0"`
	MIGEnabled        bool     `json:"migEnabled,omitempty" doc:"The GPU is cut into slices: they are leased, it is not"`
	MIGProfile        string   `json:"migProfile,omitempty" doc:"Of a slice" example:"1g.10gb"`
	ParentID          string   `json:"parentId,omitempty" doc:"ID of the GPU that a slice is of"`
	Methods           []string `json:"methods,omitempty" doc:"Of a simulator"`
	Cores             int      `json:"cores,omitempty" doc:"Of a simulator"`
	Speed             []Speed  `json:"speed,omitempty" doc:"Of a simulator: single-qubit gates per second on a statevector, as its node has measured once by a plain loop on all cores. It compares nodes; a simulator such as Aer is faster by a factor of its own"`
	Simulated         bool     `json:"simulated,omitempty" doc:"It is only declared, for tests and plans: no code runs on it"`
	Fault             string   `json:"fault,omitempty" doc:"Why it gets no slots, such as an Xid error; absent when it is sound"`
	Load              *Load    `json:"load,omitempty" doc:"What a GPU is doing, as its node has last said; absent when that is not known"`
	Holder            *Holder  `json:"holder,omitempty" doc:"Who holds it alone; for operators only"`
}

// Speed is how fast a simulator is.
type Speed struct {
	Qubits         int     `json:"qubits" doc:"Size of the state"`
	GatesPerSecond float64 `json:"gatesPerSecond" doc:"At that size"`
}

// Load is what a GPU is doing.
type Load struct {
	MemoryUsed     int64    `json:"memoryUsed" doc:"Bytes"`
	MemoryFree     int64    `json:"memoryFree" doc:"Bytes"`
	Utilisation    int      `json:"utilisation" doc:"Percent of the time in which it computed, in the driver's last sample; 0 of a slice, for which the driver does not tell"`
	Temperature    int      `json:"temperature,omitempty" doc:"Degrees Celsius"`
	Power          float64  `json:"power,omitempty" doc:"Watts"`
	PowerLimit     float64  `json:"powerLimit,omitempty" doc:"Watts"`
	Throttled      []string `json:"throttled,omitempty" doc:"Why its clocks are lower than they could be"`
	Processes      int      `json:"processes" doc:"How many compute on it"`
	MPS            bool     `json:"mps,omitempty" doc:"Whether processes share it through NVIDIA's MPS"`
	ECCCorrected   int64    `json:"eccCorrected,omitempty" doc:"Memory errors since the driver was loaded"`
	ECCUncorrected int64    `json:"eccUncorrected,omitempty" doc:"Memory errors since the driver was loaded"`
}

// Holder is who holds a device.
type Holder struct {
	SlotID       string `json:"slotId" doc:"ID of the slot"`
	ProjectID    string `json:"projectId" doc:"ID of its project"`
	FunctionID   string `json:"functionId" doc:"ID of its function"`
	FunctionName string `json:"functionName,omitempty" doc:"Name of its function; absent when that was deleted"`
	DeploymentID string `json:"deploymentId,omitempty" doc:"ID of its deployment; absent for a slot on demand"`
}

func toDevice(d warpket.NodeDevice) Device {
	out := Device{
		ID: d.ID, Node: d.NodeName, Kind: string(d.Kind), Name: d.Name, Memory: d.Memory, Leased: d.Holder != nil, Free: d.Free, ComputeCapability: d.ComputeCapability,
		DriverVersion: d.DriverVersion, CUDAVersion: d.CUDAVersion, Methods: d.Methods, Cores: d.Cores,
		MIGEnabled: d.MIGEnabled, MIGProfile: d.MIGProfile, ParentID: d.ParentID, Simulated: d.Simulated, Fault: d.Fault,
	}
	for _, s := range d.Speed {
		out.Speed = append(out.Speed, Speed(s))
	}
	if d.Load != nil {
		load := Load(*d.Load)
		out.Load = &load
	}
	return out
}

// devicesOf are the devices of a node.
func devicesOf(n warpket.Node) []Device {
	out := make([]Device, len(n.Inventory.Devices))
	for i, d := range n.Inventory.Devices {
		leased := slices.Contains(n.DevicesLeased, d.ID)
		one := warpket.NodeDevice{Device: d, NodeID: n.ID, NodeName: n.Name, Free: n.Live && !n.Cordoned && !leased && d.Leasable()}
		if load, told := n.Loads[d.ID]; told {
			one.Load = &load
		}
		out[i] = toDevice(one)
		out[i].Leased = leased
	}
	return out
}

func (s *Server) addDevices() {
	register(s, Read, huma.Operation{
		OperationID: "list-devices", Method: http.MethodGet, Path: "/v1/devices", Tags: []string{"Nodes"}, Summary: "List devices",
		Description: "Of all nodes, those of the newest node first. Operators see who holds them.",
	}, s.listDevices, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "clear-device-fault", Method: http.MethodDelete, Path: "/v1/nodes/{id}/devices/{deviceId}/fault", Tags: []string{"Nodes"}, Summary: "Clear a device's fault",
		Description: "Lets slots be placed again on a device that had a fault. A fault is also over when its machine has been started anew. Clearing none does nothing.", DefaultStatus: http.StatusOK, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		NodeInput
		DeviceID string `path:"deviceId" maxLength:"200" doc:"ID of the device"`
	},
	) (*nodeOutput, error) {
		id, err := warpket.ParseID("node", in.ID)
		if err != nil {
			return nil, err
		}
		if err := s.Store.ClearFault(ctx, id, in.DeviceID); err != nil {
			return nil, err
		}
		return nodeAnswer(s.Store.Node(ctx, id))
	}, wholeProject)
}

func (s *Server) listDevices(ctx context.Context, in *struct {
	PageInput
	Kind   string `query:"kind" enum:"gpu,simulator" doc:"Only devices of this kind"`
	Node   string `query:"nodeId" maxLength:"64" doc:"Only devices of this node"`
	Free   string `query:"free" enum:"true,false" doc:"Only devices that a slot may be placed on now, or only the others"`
	Name   string `query:"name" maxLength:"200" doc:"Only devices of this model; has:TEXT for those that have a text in it" example:"has:H100"`
	Memory string `query:"memory" maxLength:"100" doc:"Only devices with that many bytes; gte:BYTES for as much or more; also gt, lte, lt, eq, neq" example:"gte:42949672960"`
},
) (*listOutput[Device], error) {
	filter := postgres.DeviceFilter{Kind: warpket.DeviceKind(in.Kind), Free: isTrue(in.Free)}
	var err error
	if filter.Name, err = warpket.ParseCondition("name", in.Name, warpket.Eq, warpket.Neq, warpket.In, warpket.Nin, warpket.Has); err != nil {
		return nil, err
	}
	if filter.Memory, err = warpket.ParseCondition("memory", in.Memory, warpket.Eq, warpket.Neq, warpket.Gt, warpket.Gte, warpket.Lt, warpket.Lte); err != nil {
		return nil, err
	}
	if in.Node != "" {
		if filter.NodeID, err = warpket.ParseID("node", in.Node); err != nil {
			return list[warpket.NodeDevice](nil, "", toDevice), nil //nolint:nilerr // no such node has no devices
		}
	}
	items, next, err := s.Store.Devices(ctx, filter, in.page())
	operator := permit(ctx, Operate) == nil
	return list(items, next, func(d warpket.NodeDevice) Device {
		out := toDevice(d)
		if h := d.Holder; h != nil && operator {
			out.Holder = &Holder{SlotID: string(h.ID), ProjectID: string(h.ProjectID), FunctionID: string(h.FunctionID), FunctionName: d.Function, DeploymentID: string(h.DeploymentID)}
		}
		return out
	}), err
}
