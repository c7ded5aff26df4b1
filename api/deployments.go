package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Deployment is a version on slots.
type Deployment struct {
	ID           string    `json:"id" doc:"ID of the deployment, and of its Temporal workflow"`
	FunctionID   string    `json:"functionId" doc:"ID of its function"`
	FunctionName string    `json:"functionName" doc:"Name of its function" example:"bell"`
	Version      int       `json:"version" doc:"Number of the version; 0 for the draft, which it follows" example:"1"`
	Slots        int       `json:"slots" doc:"Slots that are wanted" example:"1"`
	Ready        int       `json:"ready" doc:"Slots that serve now, with the current configuration of the function" example:"1"`
	Status       string    `json:"status" enum:"pending,building,placing,preparing,ready,degraded,failed,detached" doc:"ready: all slots serve; degraded: some do, and the rest is being repaired; failed and detached are final"`
	Message      string    `json:"message" doc:"Progress, or why it failed"`
	Target       string    `json:"target,omitempty" enum:"cpu,simulator,gpu,compile,sim" doc:"For which target it is; absent for one of an earlier release"`
	Resources    Resources `json:"resources" doc:"What each slot has"`
	Build        *Build    `json:"build,omitempty" doc:"What a compiler has made of its files, for templates with one; absent in lists"`
	Placement    Placement `json:"placement" doc:"Where its slots are, and why there"`
	Queue        *Queue    `json:"queue,omitempty" doc:"Its place while slots of it wait for room; absent in lists"`
	Isolation    string    `json:"isolation" doc:"What keeps it apart from other functions, where that is weakest, and what it lacks; none: plain processes; empty while it holds no slot" example:"namespaces"`
	TemporalURL  string    `json:"temporalUrl,omitempty" doc:"Its page in the Temporal UI"`
	CreatedDate  time.Time `json:"createdDate" doc:"When it was asked for"`
	UpdatedDate  time.Time `json:"updatedDate" doc:"When it last changed"`
}

// Placement says where slots are.
type Placement struct {
	Slots []SlotPlace `json:"slots" nullable:"false" doc:"One for each slot that is held"`
}

// SlotPlace says where one slot is.
type SlotPlace struct {
	SlotID    string   `json:"slotId" doc:"ID of the slot"`
	Node      string   `json:"node" doc:"Name of its node"`
	Status    string   `json:"status" enum:"preparing,ready,lost" doc:"lost: its node is silent"`
	Devices   []string `json:"devices" nullable:"false" doc:"Devices that it holds alone"`
	Reason    string   `json:"reason" doc:"Why it is there"`
	Simulated bool     `json:"simulated,omitempty" doc:"Its devices are only declared, for tests and plans: no code runs on them"`
	Yields    bool     `json:"yields,omitempty" doc:"Whether it ends, for something more urgent, when what runs in it has ended"`

	Candidates []Candidate `json:"candidates,omitempty" doc:"The best of the nodes that had room when it was placed, the chosen one first"`
	Rejected   []Rejection `json:"rejected,omitempty" doc:"Why the other nodes had none"`
}

func (s *Server) toDeployment(d warpket.Deployment) Deployment {
	out := Deployment{
		ID: string(d.ID), FunctionID: string(d.FunctionID), FunctionName: d.FunctionName, Version: d.VersionNumber, Slots: d.Slots, Ready: d.Ready,
		Status: string(d.Status), Message: d.Message, Target: string(d.Target), Resources: toResources(d.Resources), Placement: Placement{Slots: []SlotPlace{}},
		Queue: toQueue(d.Waiting), TemporalURL: s.Workflows.DeploymentURL(d.ID), CreatedDate: d.CreatedDate, UpdatedDate: d.UpdatedDate,
	}
	for _, p := range d.Placement {
		if out.Isolation == "" || !p.Isolation.Complete() {
			out.Isolation = p.Isolation.String() // the weakest counts
		}
		place := SlotPlace{SlotID: string(p.Slot), Node: p.Node, Status: string(p.Status), Devices: orEmpty(p.Devices), Reason: p.Reason, Yields: p.Yields, Simulated: p.Simulated}
		if p.Decision != nil {
			place.Candidates, place.Rejected = toCandidates(p.Decision.Candidates), toRejections(p.Decision.Rejected)
		}
		out.Placement.Slots = append(out.Placement.Slots, place)
	}
	return out
}

// Build is what a compiler has made of a version's files.
type Build struct {
	Status        string   `json:"status" enum:"pending,succeeded,failed" doc:"failed: the files do not compile"`
	Architectures []string `json:"architectures" nullable:"false" doc:"Compute capabilities that it is compiled for; PTX of the newest is for GPUs that came later" example:"[\"8.0\",\"9.0\"]"`
	Message       string   `json:"message" doc:"The first error"`
	Log           string   `json:"log" doc:"What the compiler has printed, ptxas with registers, spills and shared memory of each kernel included; up to 256 KiB"`
	SHA256        string   `json:"sha256,omitempty" doc:"Hash of the program"`
	Size          int64    `json:"size" doc:"Bytes of the program"`
}

func toBuild(b *warpket.Build) *Build {
	if b == nil {
		return nil
	}
	return &Build{Status: string(b.Status), Architectures: orEmpty(b.Architectures), Message: b.Message, Log: b.Log, SHA256: b.SHA256, Size: b.Size}
}

// CreateDeploymentRequest says how a version is to be deployed.
type CreateDeploymentRequest struct {
	Slots     *int       `json:"slots,omitempty" minimum:"0" maximum:"1000" doc:"How many slots; 1 unless set" example:"1"`
	Target    string     `json:"target,omitempty" enum:"cpu,simulator,gpu,compile,sim" doc:"For which target it is; unless set, gpu if GPUs are asked for, else the template's first target"`
	Resources *Resources `json:"resources,omitempty" doc:"What each slot has; the function's unless set"`
	elastic   bool
}

// ScaleDeploymentRequest sets the number of slots.
type ScaleDeploymentRequest struct {
	Slots int `json:"slots" minimum:"0" maximum:"1000" doc:"How many slots are wanted" example:"2"`
}

type (
	// DeploymentInput names a deployment in a path. It is exported for huma, which reads no
	// other embedded fields.
	DeploymentInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the deployment"`
	}
	// HeldInput says how long the answer may be held. It is exported for huma, which reads no
	// other embedded fields.
	HeldInput struct {
		Prefer string `header:"Prefer" maxLength:"100" doc:"wait=SECONDS holds the answer until there is nothing left to wait for, at most so long" example:"wait=30"`
	}
	gotDeployment struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Deployment
	}
	deploymentOutput struct {
		Status     int
		ETag       string `header:"ETag" doc:"For If-Match"`
		Location   string `header:"Location" doc:"Where to follow it, while it is not settled"`
		RetryAfter string `header:"Retry-After" doc:"Seconds after which it is worth asking again"`
		Body       Deployment
	}
)

func (s *Server) addDeployments() {
	tags := []string{"Deployments"}
	accepted := accepted[Deployment](s, "Not settled yet: follow Location")
	register(s, Write, huma.Operation{
		OperationID: "create-deployment", Method: http.MethodPost, Path: "/v1/functions/{functionId}/versions/{version}/deployments", Tags: tags, Summary: "Deploy a version", DefaultStatus: http.StatusOK,
		Description: "Keeps the version ready on slots: has its runtime built, places the slots, has nodes prepare them, and repairs them until it is detached. 202 while that goes on; with `Prefer: wait=SECONDS` the answer is held.",
		Errors:      []int{http.StatusNotFound, http.StatusUnprocessableEntity}, Responses: accepted,
	}, s.createDeployment, byPath)
	register(s, Read, huma.Operation{
		OperationID: "list-deployments", Method: http.MethodGet, Path: "/v1/deployments", Tags: tags, Summary: "List deployments",
	}, func(ctx context.Context, in *struct {
		PageInput
		FunctionID string `query:"functionId" maxLength:"64" doc:"Only those of this function"`
		Status     string `query:"status" enum:"pending,building,placing,preparing,ready,degraded,failed,detached" doc:"Only those with this status"`
		NumberInput
	},
	) (*listOutput[Deployment], error) {
		filter := postgres.DeploymentFilter{Status: warpket.DeploymentStatus(in.Status), Version: in.number(), Functions: reachable(ctx)}
		if in.FunctionID != "" {
			id, err := warpket.ParseID("function", in.FunctionID)
			if err != nil {
				return list[warpket.Deployment](nil, "", s.toDeployment), nil //nolint:nilerr // no such function has no deployments
			}
			filter.FunctionID = id
		}
		items, next, err := s.Store.Deployments(ctx, projectOf(ctx), filter, in.page())
		return list(items, next, s.toDeployment), err
	}, byFilter)
	register(s, Read, huma.Operation{
		OperationID: "get-deployment", Method: http.MethodGet, Path: "/v1/deployments/{id}", Tags: tags, Summary: "Get a deployment",
		Description: "With `Prefer: wait=SECONDS` the answer is held until the deployment is ready, failed or detached.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		DeploymentInput
		HeldInput
	},
	) (*gotDeployment, error) {
		id, err := warpket.ParseID("deployment", in.ID)
		if err != nil {
			return nil, err
		}
		out, err := s.followDeployment(ctx, id, in.Prefer, warpket.Deployment.Settled)
		if err != nil {
			return nil, err
		}
		return &gotDeployment{out.ETag, out.Body}, nil
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "scale-deployment", Method: http.MethodPatch, Path: "/v1/deployments/{id}", Tags: tags, Summary: "Scale a deployment", DefaultStatus: http.StatusOK,
		Description: "Sets the number of slots. Slots that are given back finish what they run. Its ETag changes with its status and message, too, but not with how many slots are ready.", Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}, Responses: accepted,
	}, s.scaleDeployment, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "detach-deployment", Method: http.MethodPost, Path: "/v1/deployments/{id}/detach", Tags: tags, Summary: "Detach a deployment", DefaultStatus: http.StatusOK,
		Description: "Gives the slots back, which finish what they run, and keeps the record.", Errors: []int{http.StatusNotFound}, Responses: accepted,
	}, s.detachDeployment, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "delete-deployment", Method: http.MethodDelete, Path: "/v1/deployments/{id}", Tags: tags, Summary: "Delete a deployment", DefaultStatus: http.StatusNoContent,
		Description: "Detaches it first.", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *DeploymentInput) (*struct{}, error) {
		out, err := s.detachDeployment(ctx, &struct {
			DeploymentInput
			HeldInput
		}{*in, HeldInput{"wait=30"}})
		if err != nil {
			return nil, err
		}
		return nil, s.Store.DeleteDeployment(ctx, projectOf(ctx), warpket.ID(out.Body.ID))
	}, byLoading)
}

func (s *Server) createDeployment(ctx context.Context, in *struct {
	VersionInput
	HeldInput
	Body *CreateDeploymentRequest `required:"false"`
},
) (*deploymentOutput, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	v, err := s.version(ctx, &in.VersionInput)
	if err != nil {
		return nil, err
	}
	return s.deploy(ctx, f, v, in.Body, in.Prefer)
}

// deploy deploys a version, or the draft as one, and answers how far it is.
func (s *Server) deploy(ctx context.Context, f warpket.Function, v warpket.Version, b *CreateDeploymentRequest, prefer string) (*deploymentOutput, error) {
	slots := 1
	if b == nil {
		b = &CreateDeploymentRequest{}
	}
	if b.Slots != nil {
		slots = *b.Slots
	}
	explicit, named := b.Resources.domain(), warpket.Target(b.Target)
	aims, err := s.aimsOf(ctx, f, v)
	if err != nil {
		return nil, err
	}
	target, resources, err := aims.Take(named, explicit, f.Settings.Resources)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	d := warpket.Deployment{
		ID: s.newID(ctx), ProjectID: f.ProjectID, FunctionID: f.ID, FunctionName: f.Name, VersionNumber: v.Number, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Slots: slots, Target: target, Resources: resources, Status: warpket.DeploymentPending, CreatedDate: now, UpdatedDate: now, Elastic: b.elastic,
	}
	if err := s.Store.CreateDeployment(ctx, d); err != nil {
		return nil, err
	}
	if err := s.Workflows.StartDeployment(context.WithoutCancel(ctx), d); err != nil {
		s.Log.WarnContext(ctx, "workflow not started; the sweeper does", "deployment", d.ID, "error", err)
	}
	return s.followDeployment(ctx, d.ID, prefer, warpket.Deployment.Settled)
}

// followDeployment answers with a deployment, held as long as the caller
// prefers unless it is done before.
func (s *Server) followDeployment(ctx context.Context, id warpket.ID, prefer string, done func(warpket.Deployment) bool) (*deploymentOutput, error) {
	held, cancel, asked := hold(ctx, prefer)
	defer cancel()
	news := s.Hub.Watch(id)
	defer news.Close()
	for {
		d, err := s.Store.Deployment(ctx, projectOf(ctx), id)
		if err == nil {
			err = mayReachThe(ctx, "deployment", id, d.FunctionID)
		}
		if err != nil {
			return nil, err
		}
		finished := done(d)
		if !finished && asked {
			select {
			case <-news.C:
				continue
			case <-held.Done():
			}
		}
		if !d.Settled() {
			if d.Waiting, err = s.waitingOf(ctx, d.ID); err != nil {
				return nil, err
			}
		}
		build, err := s.Store.BuildOf(ctx, d.ProjectID, d.SnapshotID)
		if err != nil {
			return nil, err
		}
		out := &deploymentOutput{Status: http.StatusOK, ETag: etag(d.UpdatedDate), Body: s.toDeployment(d)}
		out.Body.Build = toBuild(build)
		if !finished {
			out.Status, out.Location, out.RetryAfter = http.StatusAccepted, "/v1/deployments/"+string(id), "1"
		}
		return out, nil
	}
}

func (s *Server) scaleDeployment(ctx context.Context, in *struct {
	DeploymentInput
	MatchInput
	HeldInput
	Body ScaleDeploymentRequest
},
) (*deploymentOutput, error) {
	d, err := s.deployment(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if d.Status.Final() {
		return nil, warpket.Errorf(warpket.Conflict, "deployment %s is %s and cannot be scaled: deploy the version anew", d.ID, d.Status)
	}
	if err := in.check("deployment", d.UpdatedDate); err != nil {
		return nil, err
	}
	var seen time.Time
	if in.names() {
		seen = d.UpdatedDate // checked again where it is locked
	}
	if err := s.Workflows.Scale(ctx, d.ID, in.Body.Slots, seen); err != nil {
		return nil, err
	}
	return s.followDeployment(ctx, d.ID, in.Prefer, func(d warpket.Deployment) bool {
		return d.Status.Final() || d.Status == warpket.DeploymentReady && d.Ready == d.Slots && len(d.Placement) == d.Slots
	})
}

func (s *Server) detachDeployment(ctx context.Context, in *struct {
	DeploymentInput
	HeldInput
},
) (*deploymentOutput, error) {
	d, err := s.deployment(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Status == warpket.DeploymentFailed: // its workflow has ended and holds nothing
		err = s.Store.AdvanceDeployment(ctx, d.ID, warpket.DeploymentDetached, d.Message, s.Now())
	case d.Status != warpket.DeploymentDetached:
		err = s.Workflows.Detach(ctx, d.ID)
	}
	if err != nil {
		return nil, err
	}
	return s.followDeployment(ctx, d.ID, in.Prefer, func(d warpket.Deployment) bool {
		return d.Status == warpket.DeploymentDetached && len(d.Placement) == 0
	})
}

func (s *Server) deployment(ctx context.Context, id string) (warpket.Deployment, error) {
	parsed, err := warpket.ParseID("deployment", id)
	if err != nil {
		return warpket.Deployment{}, err
	}
	d, err := s.Store.Deployment(ctx, projectOf(ctx), parsed)
	if err != nil {
		return d, err
	}
	return d, mayReachThe(ctx, "deployment", parsed, d.FunctionID)
}
