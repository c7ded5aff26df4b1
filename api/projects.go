package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Project is a tenant.
type Project struct {
	ID          string    `json:"id" doc:"ID of the project"`
	Name        string    `json:"name" doc:"Its name, unique" example:"chemistry"`
	Description string    `json:"description" doc:"What it is for"`
	AllowEgress bool      `json:"allowEgress" doc:"Whether its functions may have the network egress"`
	Weight      float64   `json:"weight" doc:"Its share of the fleet beside other projects, when there is not enough for all" example:"1"`
	MaxPriority int       `json:"maxPriority" doc:"Up to which its priorities count beside other projects; among its own work they count as they are"`
	CreatedDate time.Time `json:"createdDate" doc:"When it was created"`
	UpdatedDate time.Time `json:"updatedDate" doc:"When it last changed"`
}

func toProject(p warpket.Project) Project {
	return Project{ID: string(p.ID), Name: p.Name, Description: p.Description, AllowEgress: p.AllowEgress, Weight: p.Weight, MaxPriority: p.MaxPriority, CreatedDate: p.CreatedDate, UpdatedDate: p.UpdatedDate}
}

// CreateProjectRequest asks for a project.
type CreateProjectRequest struct {
	Name        string `json:"name" minLength:"2" maxLength:"63" doc:"2 to 63 of a-z, 0-9 and -, unique" example:"chemistry"`
	Description string `json:"description,omitempty" maxLength:"4096" doc:"What it is for"`
}

// UpdateProjectRequest changes what it sets.
type UpdateProjectRequest struct {
	Description *string  `json:"description,omitempty" maxLength:"4096" doc:"What it is for"`
	AllowEgress *bool    `json:"allowEgress,omitempty" doc:"Whether its functions may have the network egress. Withdrawn, the functions that have it no longer run"`
	Weight      *float64 `json:"weight,omitempty" minimum:"0.001" maximum:"1000" doc:"Its share of the fleet beside other projects; 1 unless set" example:"2"`
	MaxPriority *int     `json:"maxPriority,omitempty" minimum:"-100" maximum:"100" doc:"Up to which its priorities count beside other projects; 0 unless set"`
}

type (
	// ProjectInput names a project in a path. It is exported for huma, which
	// reads no other embedded fields.
	ProjectInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID or name of the project" example:"chemistry"`
	}
	projectOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Project
	}
)

func projectAnswer(p warpket.Project) *projectOutput {
	return &projectOutput{ETag: etag(p.UpdatedDate), Body: toProject(p)}
}

func (s *Server) addProjects() {
	tags := []string{"Projects"}
	register(s, Operate, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/v1/projects", Tags: tags, Summary: "List projects",
	}, func(ctx context.Context, in *struct {
		PageInput
		NameInput
	},
	) (*listOutput[Project], error) {
		name, err := in.condition()
		if err != nil {
			return nil, err
		}
		items, next, err := s.Store.Projects(ctx, name, in.page())
		return list(items, next, toProject), err
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "create-project", Method: http.MethodPost, Path: "/v1/projects", Tags: tags, Summary: "Create a project", DefaultStatus: http.StatusOK,
		Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *struct{ Body CreateProjectRequest }) (*projectOutput, error) {
		if err := warpket.CheckName("project", in.Body.Name); err != nil {
			return nil, err
		}
		if err := warpket.CheckDescription(in.Body.Description); err != nil {
			return nil, err
		}
		now := s.Now()
		p := warpket.Project{ID: s.newID(ctx), Name: in.Body.Name, Description: in.Body.Description, Weight: 1, CreatedDate: now, UpdatedDate: now}
		return projectAnswer(p), s.Store.CreateProject(ctx, p)
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "get-project", Method: http.MethodGet, Path: "/v1/projects/{id}", Tags: tags, Summary: "Get a project",
		Description: "An admin may get the own one, an operator any.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *ProjectInput) (*projectOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		return projectAnswer(p), err
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "update-project", Method: http.MethodPatch, Path: "/v1/projects/{id}", Tags: tags, Summary: "Change a project",
		Description: "Changes what is set and leaves the rest.", Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		ProjectInput
		MatchInput
		Body UpdateProjectRequest
	},
	) (*projectOutput, error) {
		defer s.targets.drop()
		p, err := s.Store.UpdateProject(ctx, in.ID, s.Now(), func(p *warpket.Project) error {
			if in.Body.AllowEgress != nil {
				p.AllowEgress = *in.Body.AllowEgress
			}
			if in.Body.Description != nil {
				p.Description = *in.Body.Description
			}
			if in.Body.Weight != nil {
				p.Weight = *in.Body.Weight
			}
			if in.Body.MaxPriority != nil {
				p.MaxPriority = *in.Body.MaxPriority
			}
			if err := in.check("project", p.UpdatedDate); err != nil {
				return err
			}
			return warpket.CheckDescription(p.Description)
		})
		return projectAnswer(p), err
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "delete-project", Method: http.MethodDelete, Path: "/v1/projects/{id}", Tags: tags, Summary: "Delete a project", DefaultStatus: http.StatusNoContent,
		Description: "Once it is answered nobody reaches the project any more, its tokens have ceased to hold, within a second on every server, and its name is free. Then all that it has is ended and removed: what runs is cancelled, slots are given back, records and objects go. " +
			"Its usage and its audit stay. Refused while it has functions, unless forced.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		ProjectInput
		MatchInput
		Force bool `query:"force" doc:"Delete it with its functions"`
	},
	) (*struct{}, error) {
		defer func() { s.tokens.drop(); s.projects.drop(); s.targets.drop() }()
		return nil, s.Store.DeleteProject(ctx, in.ID, in.Force, s.Now(), func(p warpket.Project) error { return in.check("project", p.UpdatedDate) })
	}, wholeProject)
}

// projectNamed gives the project that a path names, if the caller may see it:
// his own, or any for an operator.
func (s *Server) projectNamed(ctx context.Context, idOrName string) (warpket.Project, error) {
	c := callerOf(ctx)
	p, err := s.Store.Project(ctx, idOrName)
	if warpket.KindOf(err) == warpket.NotFound || err == nil && p.ID != c.project && c.role != warpket.Operator {
		return warpket.Project{}, warpket.Errorf(warpket.NotFound, "there is no project %q", clip(idOrName, 80))
	}
	return p, err
}

// projectAsked is the ID of the project that a request names, else the caller's.
func (s *Server) projectAsked(ctx context.Context, idOrName string) (warpket.ID, error) {
	if idOrName == "" {
		return projectOf(ctx), nil
	}
	p, err := s.projectNamed(ctx, idOrName)
	return p.ID, err
}
