package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
)

// Node is a machine that has slots.
type Node struct {
	ID          string            `json:"id" doc:"ID of the node"`
	Name        string            `json:"name" doc:"Its name"`
	Status      string            `json:"status" enum:"up,cordoned,draining,drained,lost,fenced" doc:"up: takes slots; cordoned: takes no new ones; draining: those that it has are given back when what runs in them has ended; drained: it has none left; lost: has been silent for longer than its lease, and what it holds stays leased; fenced: an operator has said that its machine is off"`
	Labels      map[string]string `json:"labels" nullable:"false" doc:"What an operator says about it; placement can ask for them"`
	Platform    string            `json:"platform" doc:"Operating system and architecture" example:"linux/amd64"`
	Slots       int               `json:"slots" doc:"Slots that it holds"`
	CPU         int               `json:"cpu" doc:"Thousandths of a core that slots may share"`
	CPULeased   int               `json:"cpuLeased" doc:"Thousandths of a core that slots hold"`
	Memory      int64             `json:"memory" doc:"Bytes that slots may share"`
	MemLeased   int64             `json:"memoryLeased" doc:"Bytes that slots hold"`
	Pythons     []string          `json:"pythons" nullable:"false" doc:"Minors of its interpreters"`
	Isolation   Isolation         `json:"isolation" doc:"What keeps functions apart on it"`
	Images      bool              `json:"images" doc:"Whether it runs functions that come as an image"`
	Simulated   bool              `json:"simulated" doc:"Whether it has devices that are only declared, for tests and plans: no code runs on these"`
	Devices     []Device          `json:"devices" nullable:"false" doc:"GPUs, slices of GPUs and simulators"`
	Notes       []string          `json:"notes" nullable:"false" doc:"What it cannot do, in words"`
	Release     string            `json:"release" doc:"Release of its agent"`
	CreatedDate time.Time         `json:"createdDate" doc:"When it joined"`
	UpdatedDate time.Time         `json:"updatedDate" doc:"When an operator last changed it"`
}

// Isolation is what keeps functions apart on a node.
type Isolation struct {
	Kind       string   `json:"kind" enum:"none,namespaces,gvisor" doc:"none: they are plain processes; namespaces: each has namespaces, a user and a filter of system calls of its own; gvisor: each has a kernel of its own"`
	UID        string   `json:"uid" enum:"own,shared" doc:"own: each sandbox has a user ID that nobody else has; shared: all have the agent's, for it does not run as root"`
	Unenforced []string `json:"unenforced" nullable:"false" enum:"cpu,memory,processes,swap,landlock" doc:"What this machine cannot hold: limits of these, where swap is what a function has there beside its memory, or the rules of Landlock, which its kernel lacks"`
}

func toNode(n warpket.Node) Node {
	out := Node{
		ID: string(n.ID), Name: n.Name, Status: "up", Labels: n.Labels, Platform: n.Inventory.Platform, Slots: n.Slots, CPU: n.Inventory.CPU, CPULeased: n.CPULeased,
		Memory: n.Inventory.Memory, MemLeased: n.MemoryLeased, Pythons: orEmpty(n.Inventory.Pythons),
		Isolation: Isolation{Kind: n.Inventory.Isolation.Kind, UID: n.Inventory.Isolation.UID, Unenforced: orEmpty(n.Inventory.Isolation.Unenforced)},
		Images:    n.Inventory.Images, Simulated: n.Simulated(),
		Devices: devicesOf(n), Notes: orEmpty(n.Inventory.Notes), Release: n.Inventory.Release, CreatedDate: n.CreatedDate, UpdatedDate: n.UpdatedDate,
	}
	switch {
	case n.Fenced:
		out.Status = "fenced"
	case !n.Live:
		out.Status = "lost"
	case n.Drained():
		out.Status = "drained"
	case n.Draining:
		out.Status = "draining"
	case n.Cordoned:
		out.Status = "cordoned"
	}
	return out
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

type (
	nodeOutput struct {
		ETag string `header:"ETag" doc:"What this is, for If-Match"`
		Body Node
	}
	// heldNode is a node that may be on its way to what was asked for.
	heldNode struct {
		Status     int
		Location   string `header:"Location" doc:"Where to follow it, while it is not drained"`
		RetryAfter string `header:"Retry-After" doc:"Seconds after which it is worth asking again"`
		ETag       string `header:"ETag" doc:"What this is, for If-Match"`
		Body       Node
	}
	// NodeInput names a node in a path. It is exported for huma, which reads no
	// other embedded fields.
	NodeInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the node"`
	}
	// UpdateNodeRequest says what is to change.
	UpdateNodeRequest struct {
		Labels map[string]*string `json:"labels" maxProperties:"128" doc:"Labels to set; one that is null is removed, others stay as they are" example:"{\"zone\": \"a\"}"`
	}
)

func nodeAnswer(n warpket.Node, err error) (*nodeOutput, error) {
	return &nodeOutput{ETag: etag(n.UpdatedDate), Body: toNode(n)}, err
}

func (s *Server) addNodes() {
	tags, missing := []string{"Nodes"}, []int{http.StatusNotFound}
	register(s, Read, huma.Operation{
		OperationID: "list-nodes", Method: http.MethodGet, Path: "/v1/nodes", Tags: tags, Summary: "List nodes",
	}, s.listNodes, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "get-node", Method: http.MethodGet, Path: "/v1/nodes/{id}", Tags: tags, Summary: "Get a node",
		Description: "With `Prefer: wait=SECONDS` the answer is held while the node is draining.", Errors: missing,
	}, func(ctx context.Context, in *struct {
		NodeInput
		HeldInput
	},
	) (*nodeOutput, error) {
		id, err := warpket.ParseID("node", in.ID)
		if err != nil {
			return nil, err
		}
		return nodeAnswer(s.followNode(ctx, id, in.Prefer))
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "update-node", Method: http.MethodPatch, Path: "/v1/nodes/{id}", Tags: tags, Summary: "Label a node",
		Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		NodeInput
		MatchInput
		Body UpdateNodeRequest
	},
	) (*nodeOutput, error) {
		return nodeAnswer(s.changeNode(ctx, in.ID, func(n *warpket.Node) error {
			if err := in.check("node", n.UpdatedDate); err != nil {
				return err
			}
			return n.SetLabels(in.Body.Labels, s.Now())
		}))
	}, wholeProject)
	for _, c := range []struct {
		id, method, summary string
		cordoned            bool
	}{{"cordon-node", http.MethodPost, "Cordon a node", true}, {"uncordon-node", http.MethodDelete, "Uncordon a node", false}} {
		register(s, Operate, huma.Operation{
			OperationID: c.id, Method: c.method, Path: "/v1/nodes/{id}/cordon", Tags: tags, Summary: c.summary,
			Description: "A cordoned node gets no new slots; those that it has go on. Uncordoning ends draining, too.", DefaultStatus: http.StatusOK, Errors: missing,
		}, func(ctx context.Context, in *NodeInput) (*nodeOutput, error) {
			return nodeAnswer(s.changeNode(ctx, in.ID, func(n *warpket.Node) error {
				n.Cordon(c.cordoned, s.Now())
				return nil
			}))
		}, wholeProject)
	}
	register(s, Operate, huma.Operation{
		OperationID: "drain-node", Method: http.MethodPost, Path: "/v1/nodes/{id}/drain", Tags: tags, Summary: "Drain a node", DefaultStatus: http.StatusOK,
		Description: "Cordons the node and has it emptied: deployments get slots elsewhere, and each slot is given back when what runs in it has ended, also when there is no room elsewhere. 202 while that goes on; `Prefer: wait=SECONDS` holds the answer until the node is empty. Uncordon it to stop.",
		Errors:      missing, Responses: accepted[Node](s, "Not empty yet: follow Location"),
	}, s.drainNode, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "fence-node", Method: http.MethodPost, Path: "/v1/nodes/{id}/fence", Tags: tags, Summary: "Fence a node", DefaultStatus: http.StatusOK,
		Description: "Your word that the machine of a lost node is off, so that nothing runs there any more: what it holds is released, its slots and devices. A node that answers is refused with 409. When its agent answers again it is told to end what it has, and takes part as before.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *NodeInput) (*nodeOutput, error) {
		id, err := warpket.ParseID("node", in.ID)
		if err != nil {
			return nil, err
		}
		return nodeAnswer(s.Fleet.Fence(ctx, id))
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "create-node-token", Method: http.MethodPost, Path: "/v1/nodes/tokens", Tags: tags, Summary: "Create a node token",
		Description: "A one-time token with which one node may join, within an hour: `warpket node --server HOST:PORT --join-token TOKEN`.", DefaultStatus: http.StatusOK,
	}, s.createNodeToken, wholeProject)
}

func (s *Server) listNodes(ctx context.Context, in *struct {
	PageInput
	Live     string   `query:"live" enum:"true,false" doc:"Only nodes that answer, or only those that do not"`
	Cordoned string   `query:"cordoned" enum:"true,false" doc:"Only nodes that take no new slots, or only the others"`
	Label    []string `query:"label,explode" maxItems:"10" doc:"Only nodes with this label, as name=value; may be repeated" example:"[\"zone=a\"]"`
},
) (*listOutput[Node], error) {
	filter := postgres.NodeFilter{Live: isTrue(in.Live), Cordoned: isTrue(in.Cordoned), Labels: map[string]string{}}
	for _, label := range in.Label {
		name, value, ok := strings.Cut(label, "=")
		if !ok || strings.ContainsRune(label, 0) {
			return nil, warpket.Errorf(warpket.Invalid, "a label is looked for as name=value, not %q", label).At("query.label")
		}
		if already, twice := filter.Labels[name]; twice && already != value {
			return list[warpket.Node](nil, "", toNode), nil // a label has one value
		}
		filter.Labels[name] = value
	}
	items, next, err := s.Store.Nodes(ctx, filter, in.page())
	return list(items, next, toNode), err
}

// isTrue reads a filter that may be absent.
func isTrue(text string) *bool {
	if text == "" {
		return nil
	}
	b := text == "true"
	return &b
}

func (s *Server) changeNode(ctx context.Context, text string, change func(*warpket.Node) error) (warpket.Node, error) {
	id, err := warpket.ParseID("node", text)
	if err != nil {
		return warpket.Node{}, err
	}
	return s.Store.UpdateNode(ctx, id, change)
}

func (s *Server) drainNode(ctx context.Context, in *struct {
	NodeInput
	HeldInput
},
) (*heldNode, error) {
	n, err := s.changeNode(ctx, in.ID, func(n *warpket.Node) error {
		n.Drain(s.Now())
		return nil
	})
	if err == nil {
		n, err = s.followNode(ctx, n.ID, in.Prefer)
	}
	if err != nil {
		return nil, err
	}
	out := &heldNode{Status: http.StatusOK, ETag: etag(n.UpdatedDate), Body: toNode(n)}
	if n.Draining && !n.Drained() {
		out.Status, out.Location, out.RetryAfter = http.StatusAccepted, "/v1/nodes/"+string(n.ID), "1"
	}
	return out, nil
}

// followNode gives a node, held as long as the caller prefers while it is being
// drained.
func (s *Server) followNode(ctx context.Context, id warpket.ID, prefer string) (warpket.Node, error) {
	held, cancel, asked := hold(ctx, prefer)
	defer cancel()
	news, freed := s.Hub.Watch(id), s.Hub.Watch(live.Capacity)
	defer news.Close()
	defer freed.Close()
	for {
		n, err := s.Store.Node(ctx, id)
		if err != nil || !asked || !n.Draining || n.Drained() {
			return n, err
		}
		select {
		case <-news.C:
		case <-freed.C:
		case <-held.Done():
			return n, nil
		}
	}
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
