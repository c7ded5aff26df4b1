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
	AllowEgress bool      `json:"allowEgress" doc:"Whether its functions may have the network egress"`
	Weight      float64   `json:"weight" doc:"Its share of the fleet beside other projects, when there is not enough for all" example:"1"`
	MaxPriority int       `json:"maxPriority" doc:"Up to which its priorities count beside other projects; among its own work they count as they are"`
	CreatedDate time.Time `json:"createdDate" doc:"When it was created"`
}

func toProject(p warpket.Project) Project {
	return Project{ID: string(p.ID), Name: p.Name, AllowEgress: p.AllowEgress, Weight: p.Weight, MaxPriority: p.MaxPriority, CreatedDate: p.CreatedDate}
}

// Token is a credential of a project.
type Token struct {
	ID          string    `json:"id" doc:"ID of the token"`
	ProjectID   string    `json:"projectId" doc:"ID of its project"`
	Role        string    `json:"role" enum:"viewer,member,admin" doc:"viewer reads; member also creates, changes, deploys, executes and deletes; admin also manages tokens"`
	Name        string    `json:"name" doc:"What it is for" example:"notebook"`
	Token       string    `json:"token,omitempty" doc:"The token itself; only in the answer to its creation"`
	CreatedDate time.Time `json:"createdDate" doc:"When it was created"`
}

func toToken(t warpket.Token) Token {
	return Token{ID: string(t.ID), ProjectID: string(t.ProjectID), Role: string(t.Role), Name: t.Name, CreatedDate: t.CreatedDate}
}

// CreateProjectRequest asks for a project.
type CreateProjectRequest struct {
	Name string `json:"name" minLength:"2" maxLength:"63" doc:"2 to 63 of a-z, 0-9 and -, unique" example:"chemistry"`
}

// UpdateProjectRequest changes what it sets.
type UpdateProjectRequest struct {
	AllowEgress *bool    `json:"allowEgress,omitempty" doc:"Whether its functions may have the network egress. Withdrawn, the functions that have it no longer run"`
	Weight      *float64 `json:"weight,omitempty" minimum:"0.001" maximum:"1000" doc:"Its share of the fleet beside other projects; 1 unless set" example:"2"`
	MaxPriority *int     `json:"maxPriority,omitempty" minimum:"-100" maximum:"100" doc:"Up to which its priorities count beside other projects; 0 unless set"`
}

// CreateTokenRequest asks for a token.
type CreateTokenRequest struct {
	ProjectID string `json:"projectId,omitempty" maxLength:"64" doc:"ID or name of the project; the caller's unless set. Only an operator may name another"`
	Role      string `json:"role" enum:"viewer,member,admin" doc:"What it may do"`
	Name      string `json:"name" minLength:"2" maxLength:"63" doc:"What it is for: 2 to 63 of a-z, 0-9 and -" example:"notebook"`
}

type (
	projectOutput struct{ Body Project }
	tokenOutput   struct{ Body Token }
)

func (s *Server) addProjects() {
	register(s, Operate, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/v1/projects", Tags: []string{"Projects"}, Summary: "List projects",
	}, func(ctx context.Context, in *PageInput) (*listOutput[Project], error) {
		items, next, err := s.Store.Projects(ctx, in.page())
		return list(items, next, toProject), err
	})
	register(s, Operate, huma.Operation{
		OperationID: "create-project", Method: http.MethodPost, Path: "/v1/projects", Tags: []string{"Projects"}, Summary: "Create a project", DefaultStatus: http.StatusOK,
		Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *struct{ Body CreateProjectRequest }) (*projectOutput, error) {
		if err := warpket.CheckName("project", in.Body.Name); err != nil {
			return nil, err
		}
		p := warpket.Project{ID: s.newID(ctx), Name: in.Body.Name, Weight: 1, CreatedDate: s.Now()}
		return &projectOutput{toProject(p)}, s.Store.CreateProject(ctx, p)
	})
	register(s, Operate, huma.Operation{
		OperationID: "update-project", Method: http.MethodPatch, Path: "/v1/projects/{id}", Tags: []string{"Projects"}, Summary: "Change what a project may", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64" doc:"ID or name of the project"`
		Body UpdateProjectRequest
	},
	) (*projectOutput, error) {
		defer s.targets.drop()
		p, err := s.Store.UpdateProject(ctx, in.ID, func(p *warpket.Project) {
			if in.Body.AllowEgress != nil {
				p.AllowEgress = *in.Body.AllowEgress
			}
			if in.Body.Weight != nil {
				p.Weight = *in.Body.Weight
			}
			if in.Body.MaxPriority != nil {
				p.MaxPriority = *in.Body.MaxPriority
			}
		})
		return &projectOutput{toProject(p)}, err
	})
	register(s, Manage, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/v1/tokens", Tags: []string{"Projects"}, Summary: "List tokens", Description: "Those of the project that are in force, without their secrets.",
	}, func(ctx context.Context, in *PageInput) (*listOutput[Token], error) {
		items, next, err := s.Store.Tokens(ctx, projectOf(ctx), in.page())
		return list(items, next, toToken), err
	})
	register(s, Manage, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/v1/tokens", Tags: []string{"Projects"}, Summary: "Create a token", DefaultStatus: http.StatusOK,
		Description: "The answer holds the token once; only its hash is kept.", Errors: []int{http.StatusNotFound},
	}, s.createToken)
	register(s, Manage, huma.Operation{
		OperationID: "delete-token", Method: http.MethodDelete, Path: "/v1/tokens/{id}", Tags: []string{"Projects"}, Summary: "Revoke a token", DefaultStatus: http.StatusNoContent,
		Description: "It ceases to hold within a second on every server.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the token"`
	},
	) (*struct{}, error) {
		id, err := warpket.ParseID("token", in.ID)
		if err != nil {
			return nil, err
		}
		defer s.tokens.drop()
		return nil, s.Store.RevokeToken(ctx, projectOf(ctx), id, s.Now())
	})
}

func (s *Server) createToken(ctx context.Context, in *struct{ Body CreateTokenRequest }) (*tokenOutput, error) {
	if err := warpket.CheckName("token", in.Body.Name); err != nil {
		return nil, err
	}
	c := callerOf(ctx)
	if in.Body.ProjectID != "" {
		p, err := s.Store.Project(ctx, in.Body.ProjectID)
		if err != nil || p.ID != c.project && c.role != warpket.Operator {
			return nil, warpket.Errorf(warpket.NotFound, "there is no project %q", in.Body.ProjectID)
		}
		c.project = p.ID
	}
	secret := warpket.Secret()
	t := warpket.Token{ID: s.newID(ctx), ProjectID: c.project, Role: warpket.Role(in.Body.Role), Name: in.Body.Name, SecretHash: warpket.HashSecret(secret), CreatedDate: s.Now()}
	out := toToken(t)
	out.Token = warpket.TokenText(t.ID, secret)
	return &tokenOutput{out}, s.Store.CreateToken(ctx, t)
}
