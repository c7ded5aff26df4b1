package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Worker is a process of a function, with the slot that holds it.
type Worker struct {
	SlotID       string    `json:"slotId" doc:"ID of its slot"`
	Node         string    `json:"node" doc:"Name of the node that it is on" example:"gpu-1"`
	Version      int       `json:"version" doc:"Number of the version that it runs; 0 for a draft" example:"1"`
	DeploymentID string    `json:"deploymentId,omitempty" doc:"ID of the deployment that keeps it; absent for one on demand, which goes when it is idle"`
	Status       string    `json:"status" enum:"preparing,ready,lost" doc:"preparing: its slot is held and it is not up yet; lost: its node is silent"`
	Resources    Resources `json:"resources" doc:"What it may use"`
	Devices      []string  `json:"devices" nullable:"false" doc:"Devices that it holds alone"`
	Reason       string    `json:"reason" doc:"Why it is there"`
	Since        time.Time `json:"since" doc:"When its slot was taken"`
}

func toWorker(w warpket.Worker) Worker {
	return Worker{
		SlotID: string(w.Slot), Node: w.Node, Version: w.Version, DeploymentID: string(w.Deployment), Status: string(w.Status),
		Resources: toResources(w.Resources), Devices: orEmpty(w.Devices), Reason: w.Reason, Since: w.Since,
	}
}

// NumberInput narrows a list to a version or the draft. It is exported for huma,
// which reads no other embedded fields.
type NumberInput struct {
	Version int  `query:"version" minimum:"1" maximum:"2147483647" doc:"Only those of the version with this number"`
	Draft   bool `query:"draft" doc:"Only those of drafts"`
}

// number is what to narrow to; nil for everything.
func (n NumberInput) number() *int {
	switch {
	case n.Draft:
		return new(warpket.DraftNumber)
	case n.Version > 0:
		return &n.Version
	}
	return nil
}

func (s *Server) addWorkers() {
	register(s, Read, huma.Operation{
		OperationID: "list-workers", Method: http.MethodGet, Path: "/v1/functions/{functionId}/workers", Tags: []string{"Functions"}, Summary: "List the workers of a function",
		Description: "The processes that serve its executions, and the slots in which one is being prepared.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		FunctionInput
		PageInput
		NumberInput
	},
	) (*listOutput[Worker], error) {
		f, err := s.function(ctx, in.FunctionID)
		if err != nil {
			return nil, err
		}
		items, next, err := s.Store.Workers(ctx, f.ProjectID, f.ID, postgres.WorkerFilter{Version: in.number()}, in.page())
		return list(items, next, toWorker), err
	}, byPath)
}
