package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Runtime is an SDK at one version, ready to run.
type Runtime struct {
	ID           string    `json:"id" doc:"ID of the runtime"`
	SDK          string    `json:"sdk" doc:"Package name of the SDK" example:"qiskit"`
	SDKVersion   string    `json:"sdkVersion" doc:"Its version" example:"0.45.3"`
	Python       string    `json:"python" doc:"Minor of the interpreter" example:"3.11"`
	Platform     string    `json:"platform" doc:"Operating system and architecture" example:"linux/amd64"`
	ProjectID    string    `json:"projectId,omitempty" doc:"Project that it belongs to; absent for a shared one"`
	Requirements []string  `json:"requirements,omitempty" nullable:"false" doc:"What a version's requirements.txt adds; absent for a shared one"`
	Status       string    `json:"status" enum:"pending,building,available,failed" doc:"How far it is; a failed one is built anew when it is asked for again"`
	Message      string    `json:"message" doc:"Progress, or why it failed"`
	Lock         string    `json:"lock,omitempty" doc:"Its exact packages with their hashes, as a requirements file; absent in lists and until locked"`
	CreatedDate  time.Time `json:"createdDate" doc:"When it was first asked for"`
	UpdatedDate  time.Time `json:"updatedDate" doc:"When it last changed"`
}

func toRuntime(r warpket.Runtime) Runtime {
	return Runtime{ID: string(r.ID), SDK: r.SDK, SDKVersion: r.SDKVersion, Python: r.Python, Platform: r.Platform, ProjectID: string(r.ProjectID), Requirements: r.Lines, Status: string(r.Status), Message: r.Message, CreatedDate: r.CreatedDate, UpdatedDate: r.UpdatedDate}
}

type runtimeOutput struct{ Body Runtime }

func (s *Server) addRuntimes() {
	register(s, Read, huma.Operation{
		OperationID: "list-runtimes", Method: http.MethodGet, Path: "/v1/runtimes", Tags: []string{"Runtimes"}, Summary: "List runtimes", Description: "The shared ones and the project's own.",
	}, func(ctx context.Context, in *PageInput) (*listOutput[Runtime], error) {
		items, next, err := s.Store.Runtimes(ctx, projectOf(ctx), in.page())
		return list(items, next, toRuntime), err
	}, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "get-runtime", Method: http.MethodGet, Path: "/v1/runtimes/{id}", Tags: []string{"Runtimes"}, Summary: "Get a runtime",
		Description: "With the lock: the exact packages that every node installs.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the runtime"`
	},
	) (*runtimeOutput, error) {
		id, err := warpket.ParseID("runtime", in.ID)
		if err != nil {
			return nil, err
		}
		r, err := s.Store.ProjectRuntime(ctx, projectOf(ctx), id)
		if err != nil {
			return nil, err
		}
		out := toRuntime(r)
		out.Lock = r.Lock
		return &runtimeOutput{out}, nil
	}, wholeProject)
}
