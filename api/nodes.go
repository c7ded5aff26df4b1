package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Node is a machine that has slots.
type Node struct {
	ID          string    `json:"id" doc:"ID of the node"`
	Name        string    `json:"name" doc:"Its name"`
	Status      string    `json:"status" enum:"up,cordoned,lost" doc:"up: takes slots; cordoned: takes no new ones; lost: has been silent for longer than its lease"`
	Platform    string    `json:"platform" doc:"Operating system and architecture" example:"linux/amd64"`
	CPU         int       `json:"cpu" doc:"Thousandths of a core that slots may share"`
	CPULeased   int       `json:"cpuLeased" doc:"Thousandths of a core that slots hold"`
	Memory      int64     `json:"memory" doc:"Bytes that slots may share"`
	MemLeased   int64     `json:"memoryLeased" doc:"Bytes that slots hold"`
	Pythons     []string  `json:"pythons" nullable:"false" doc:"Minors of its interpreters"`
	Isolation   Isolation `json:"isolation" doc:"What keeps functions apart on it"`
	Images      bool      `json:"images" doc:"Whether it runs functions that come as an image"`
	Devices     []Device  `json:"devices" nullable:"false" doc:"GPUs and simulators"`
	Notes       []string  `json:"notes" nullable:"false" doc:"What it cannot do, in words"`
	Release     string    `json:"release" doc:"Release of its agent"`
	CreatedDate time.Time `json:"createdDate" doc:"When it joined"`
}

// Isolation is what keeps functions apart on a node.
type Isolation struct {
	Kind       string   `json:"kind" enum:"none,namespaces,gvisor" doc:"none: they are plain processes; namespaces: each has namespaces, a user and a filter of system calls of its own; gvisor: each has a kernel of its own"`
	UID        string   `json:"uid" enum:"own,shared" doc:"own: each sandbox has a user ID that nobody else has; shared: all have the agent's, for it does not run as root"`
	Unenforced []string `json:"unenforced" nullable:"false" enum:"cpu,memory,processes" doc:"Limits that this machine cannot hold"`
}

// Device is what a slot may need.
type Device struct {
	ID                string   `json:"id" doc:"Unique on its node; the UUID of an NVIDIA GPU"`
	Node              string   `json:"node" doc:"Name of its node"`
	Kind              string   `json:"kind" enum:"gpu,simulator" doc:"What sort of device it is"`
	Name              string   `json:"name" doc:"Model"`
	Memory            int64    `json:"memory" doc:"Bytes"`
	Leased            bool     `json:"leased" doc:"Whether a slot holds it alone"`
	ComputeCapability string   `json:"computeCapability,omitempty" doc:"Of a GPU" example:"9.0"`
	DriverVersion     string   `json:"driverVersion,omitempty" doc:"Of a GPU"`
	CUDAVersion       string   `json:"cudaVersion,omitempty" doc:"Highest that a GPU's driver takes" example:"13.0"`
	Methods           []string `json:"methods,omitempty" doc:"Of a simulator"`
	Cores             int      `json:"cores,omitempty" doc:"Of a simulator"`
}

func toNode(n warpket.Node) Node {
	out := Node{
		ID: string(n.ID), Name: n.Name, Status: "up", Platform: n.Inventory.Platform, CPU: n.Inventory.CPU, CPULeased: n.CPULeased,
		Memory: n.Inventory.Memory, MemLeased: n.MemoryLeased, Pythons: orEmpty(n.Inventory.Pythons),
		Isolation: Isolation{Kind: n.Inventory.Isolation.Kind, UID: n.Inventory.Isolation.UID, Unenforced: orEmpty(n.Inventory.Isolation.Unenforced)},
		Images:    n.Inventory.Images,
		Devices:   toDevices(n), Notes: orEmpty(n.Inventory.Notes), Release: n.Inventory.Release, CreatedDate: n.CreatedDate,
	}
	switch {
	case !n.Live:
		out.Status = "lost"
	case n.Cordoned:
		out.Status = "cordoned"
	}
	return out
}

func toDevices(n warpket.Node) []Device {
	out := make([]Device, len(n.Inventory.Devices))
	leased := map[string]bool{}
	for _, id := range n.DevicesLeased {
		leased[id] = true
	}
	for i, d := range n.Inventory.Devices {
		out[i] = Device{
			ID: d.ID, Node: n.Name, Kind: string(d.Kind), Name: d.Name, Memory: d.Memory, Leased: leased[d.ID], ComputeCapability: d.ComputeCapability,
			DriverVersion: d.DriverVersion, CUDAVersion: d.CUDAVersion, Methods: d.Methods, Cores: d.Cores,
		}
	}
	return out
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

type nodeOutput struct{ Body Node }

// NodeInput names a node in a path. It is exported for huma, which reads no
// other embedded fields.
type NodeInput struct {
	ID string `path:"id" maxLength:"64" doc:"ID of the node"`
}

func (s *Server) addNodes() {
	register(s, Read, huma.Operation{
		OperationID: "list-nodes", Method: http.MethodGet, Path: "/v1/nodes", Tags: []string{"Nodes"}, Summary: "List nodes",
	}, func(ctx context.Context, in *PageInput) (*listOutput[Node], error) {
		items, next, err := s.Store.Nodes(ctx, in.page())
		return list(items, next, toNode), err
	}, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "list-devices", Method: http.MethodGet, Path: "/v1/devices", Tags: []string{"Nodes"}, Summary: "List devices", Description: "Of all nodes. A page holds the devices of up to limit nodes.",
	}, func(ctx context.Context, in *PageInput) (*listOutput[Device], error) {
		nodes, next, err := s.Store.Nodes(ctx, in.page())
		out := &listOutput[Device]{}
		out.Body.Items, out.Body.NextCursor = []Device{}, next
		for _, n := range nodes {
			out.Body.Items = append(out.Body.Items, toDevices(n)...)
		}
		return out, err
	}, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "get-node", Method: http.MethodGet, Path: "/v1/nodes/{id}", Tags: []string{"Nodes"}, Summary: "Get a node", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *NodeInput) (*nodeOutput, error) {
		id, err := warpket.ParseID("node", in.ID)
		if err != nil {
			return nil, err
		}
		n, err := s.Store.Node(ctx, id)
		return &nodeOutput{toNode(n)}, err
	}, wholeProject)
	for _, c := range []struct {
		id, method, summary string
		cordoned            bool
	}{{"cordon-node", http.MethodPost, "Cordon a node", true}, {"uncordon-node", http.MethodDelete, "Uncordon a node", false}} {
		register(s, Operate, huma.Operation{
			OperationID: c.id, Method: c.method, Path: "/v1/nodes/{id}/cordon", Tags: []string{"Nodes"}, Summary: c.summary,
			Description: "A cordoned node gets no new slots; those that it has go on.", DefaultStatus: http.StatusOK, Errors: []int{http.StatusNotFound},
		}, func(ctx context.Context, in *NodeInput) (*nodeOutput, error) {
			id, err := warpket.ParseID("node", in.ID)
			if err != nil {
				return nil, err
			}
			n, err := s.Store.CordonNode(ctx, id, c.cordoned)
			return &nodeOutput{toNode(n)}, err
		}, wholeProject)
	}
	register(s, Operate, huma.Operation{
		OperationID: "create-node-token", Method: http.MethodPost, Path: "/v1/nodes/tokens", Tags: []string{"Nodes"}, Summary: "Create a node token",
		Description: "A one-time token with which one node may join, within an hour: `warpket node --server HOST:PORT --join-token TOKEN`.", DefaultStatus: http.StatusOK,
	}, s.createNodeToken, wholeProject)
}

type nodeTokenOutput struct{ Body NodeToken }

// NodeToken is a one-time token with which a node may join.
type NodeToken struct {
	Token       string    `json:"token" doc:"The token; it is shown only now"`
	ExpiresDate time.Time `json:"expiresDate" doc:"When it ceases to hold"`
}

func (s *Server) createNodeToken(ctx context.Context, _ *struct{}) (*nodeTokenOutput, error) {
	now := s.Now()
	id, secret := s.newID(ctx), warpket.Secret()
	out := &nodeTokenOutput{}
	out.Body.Token, out.Body.ExpiresDate = s.Authority.JoinToken(id, secret), now.Add(time.Hour)
	return out, s.Store.CreateNodeToken(ctx, id, warpket.HashSecret(secret), now, out.Body.ExpiresDate)
}
