package qinling

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type aliasObject struct {
	Name            string  `json:"name"`
	FunctionID      string  `json:"function_id"`
	FunctionVersion int     `json:"function_version" doc:"The first of several, of an alias that natively has them"`
	Description     *string `json:"description"`
	ProjectID       string  `json:"project_id"`
	CreatedAt       string  `json:"created_at"`
	UpdatedAt       *string `json:"updated_at"`
}

func toAlias(a warpket.Alias) aliasObject {
	out := aliasObject{
		Name: a.Name, FunctionID: string(a.FunctionID), Description: orNull(a.Description), ProjectID: string(a.ProjectID),
		CreatedAt: timestamp(a.CreatedDate), UpdatedAt: updated(a.CreatedDate, a.UpdatedDate),
	}
	if len(a.Routes) > 0 {
		out.FunctionVersion = a.Routes[0].Version
	}
	return out
}

// ByName names an alias in a path. It is exported for huma, which reads no other
// embedded fields.
type ByName struct {
	Name string `path:"name" doc:"Name of the alias"`
}

func (w *wire) addAliases() {
	type aliases struct {
		Aliases []aliasObject `json:"function_aliases"`
	}
	tags := []string{"Aliases"}
	register(w, api.Read, huma.Operation{OperationID: "list-aliases", Method: http.MethodGet, Path: "/v1/aliases", Tags: tags, Summary: "List aliases", Metadata: ofProjects()},
		func(ctx context.Context, in *struct{ Query }) (*output[aliases], error) {
			projects, err := w.projects(ctx, &in.Query)
			if err != nil {
				return nil, err
			}
			found, err := list(ctx, projects, func(a warpket.Alias) warpket.ID { return a.ID }, always,
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Alias, string, error) {
					return w.server.Store.Aliases(ctx, project, postgres.AliasFilter{}, page)
				})
			out := aliases{Aliases: []aliasObject{}}
			for _, a := range found {
				out.Aliases = append(out.Aliases, toAlias(a))
			}
			return &output[aliases]{out}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "create-alias", Method: http.MethodPost, Path: "/v1/aliases", Tags: tags, Summary: "Create an alias", DefaultStatus: http.StatusCreated}, w.createAlias)
	register(w, api.Read, huma.Operation{OperationID: "get-alias", Method: http.MethodGet, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Show an alias"},
		func(ctx context.Context, in *struct {
			Query
			ByName
		},
		) (*output[aliasObject], error) {
			a, err := w.server.Store.Alias(ctx, api.CallerOf(ctx).Project, in.Name)
			return &output[aliasObject]{toAlias(a)}, noAlias(err, in.Name)
		})
	register(w, api.Write, huma.Operation{OperationID: "update-alias", Method: http.MethodPut, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Update an alias"}, w.updateAlias)
	register(w, api.Write, huma.Operation{OperationID: "delete-alias", Method: http.MethodDelete, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Delete an alias"},
		func(ctx context.Context, in *struct {
			Query
			ByName
		},
		) (*struct{}, error) {
			err := w.server.RemoveAlias(ctx, in.Name)
			return nil, conflicting(noAlias(err, in.Name), "")
		})
}

func noAlias(err error, name string) error {
	return notFound(err, "FunctionAlias", "name=%s", clip(name))
}

func duplicateAlias(project warpket.ID, what string, is any) error {
	return invalid("Duplicate entry for function_aliases: ['project_id=%s', '%s=%v']", project, what, is)
}

// onlyAlias refuses a second alias for the same version of a function.
func (w *wire) onlyAlias(ctx context.Context, a warpket.Alias) error {
	number := a.Routes[0].Version
	others, _, err := w.server.Store.Aliases(ctx, a.ProjectID, postgres.AliasFilter{FunctionID: a.FunctionID, Version: &number}, postgres.Page{Limit: 2})
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Name != a.Name {
			return duplicateAlias(a.ProjectID, "function_id, function_version", fmt.Sprintf("%s, %d", a.FunctionID, number))
		}
	}
	return nil
}

func (w *wire) createAlias(ctx context.Context, in *Sent) (*output[aliasObject], error) {
	said, err := in.object("body", "name", "function_id", "function_version", "description")
	if err != nil {
		return nil, err
	}
	var name, function, description string
	if err := said.texts(map[string]*string{"name": &name, "function_id": &function, "description": &description}); err != nil {
		return nil, err
	}
	if name == "" || function == "" {
		return nil, invalid("Required param is missing. Required: {'name', 'function_id'}")
	}
	if !namesAlias(name) {
		return nil, invalid("Invalid alias name %q: use 1 to 255 characters without / and control characters.", clip(name))
	}
	number, _, err := said.version()
	if err != nil {
		return nil, err
	}
	f, err := w.own(ctx, function)
	if err != nil {
		return nil, err
	}
	now := w.server.Now()
	a := warpket.Alias{
		ID: w.server.NewID(ctx), ProjectID: f.ProjectID, Name: name, Description: description, FunctionID: f.ID, Routes: []warpket.Route{{Version: number, Weight: 1}},
		CreatedDate: now, UpdatedDate: now,
	}
	if err := w.onlyAlias(ctx, a); err != nil {
		return nil, err
	}
	err = w.server.AddAlias(ctx, a)
	if warpket.KindOf(err) == warpket.Conflict {
		err = duplicateAlias(a.ProjectID, "name", clip(name))
	}
	return &output[aliasObject]{toAlias(a)}, err
}

func (w *wire) updateAlias(ctx context.Context, in *struct {
	ByName
	Sent
},
) (*output[aliasObject], error) {
	said, err := in.object("body", "name", "function_id", "function_version", "description")
	if err != nil {
		return nil, err
	}
	var function, description string
	if err := said.texts(map[string]*string{"function_id": &function, "description": &description}); err != nil {
		return nil, err
	}
	number, numbered, err := said.version()
	if err != nil {
		return nil, err
	}
	set := func(a *warpket.Alias) error {
		if said.has("description") {
			a.Description = description
		}
		if function != "" {
			f, err := w.own(ctx, function)
			if err != nil {
				return err
			}
			a.FunctionID = f.ID
		}
		if numbered {
			a.Routes = []warpket.Route{{Version: number, Weight: 1}}
		}
		return nil
	}
	a, err := w.server.Store.Alias(ctx, api.CallerOf(ctx).Project, in.Name)
	if err == nil {
		err = set(&a)
	}
	if err == nil && len(a.Routes) == 1 {
		err = w.onlyAlias(ctx, a)
	}
	if err != nil {
		return nil, noAlias(err, in.Name)
	}
	a, err = w.server.ChangeAlias(ctx, in.Name, set)
	return &output[aliasObject]{toAlias(a)}, noAlias(err, in.Name)
}
