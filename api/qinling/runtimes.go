package qinling

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type runtimeObject struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Image       string  `json:"image" doc:"Image that it is made of, or a name that stands for an SDK" example:"openstackqinling/python3-runtime"`
	Description *string `json:"description"`
	IsPublic    bool    `json:"is_public"`
	Trusted     bool    `json:"trusted"`
	Status      string  `json:"status" enum:"creating,available,upgrading,error"`
	ProjectID   string  `json:"project_id"`
	CreatedAt   string  `json:"created_at"`
	UpdatedAt   *string `json:"updated_at"`
}

func toRuntime(r warpket.Runtime) runtimeObject {
	return runtimeObject{
		ID: string(r.ID), Name: r.Name, Image: imageOf(r), Description: orNull(r.Description), IsPublic: r.Public, Trusted: r.Trusted, Status: runtimeStatus(r),
		ProjectID: string(r.ProjectID), CreatedAt: timestamp(r.CreatedDate), UpdatedAt: updated(r.CreatedDate, r.UpdatedDate),
	}
}

// imageOf is the image of a runtime, or the name of one that stands for it.
func imageOf(r warpket.Runtime) string {
	switch {
	case r.Image != nil:
		return r.Image.Reference
	case r.SDK == "python":
		return python3Image
	}
	return warpketImages + r.SDK + ":" + r.SDKVersion
}

// made says what a runtime is made of that has an image of this name: an SDK at
// a version, or the image itself.
func (w *wire) made(image string) (sdk, version, reference string, err error) {
	name := strings.TrimPrefix(image, "docker.io/")
	name, tag, _ := strings.Cut(name, ":")
	switch {
	case name == python3Image:
		return "python", "", "", nil
	case strings.HasPrefix(name, qinlingImages):
		return "", "", "", invalid("There is no runtime for the image %.100s. There are: %s. Any other image is what functions run in.", image, strings.Join(w.images(), ", "))
	case strings.HasPrefix(name, warpketImages):
		return strings.TrimPrefix(name, warpketImages), tag, "", nil
	}
	return "", "", image, nil
}

// images are the names that stand for SDKs.
func (w *wire) images() []string {
	names := []string{python3Image}
	for _, t := range w.server.Catalog.Templates() {
		if name := warpketImages + t.SDK; t.SDK != "python" && !contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (w *wire) addRuntimes() {
	type runtimes struct {
		Runtimes []runtimeObject `json:"runtimes"`
	}
	type pool struct {
		Name     string `json:"name"`
		Capacity struct {
			Total     int `json:"total"`
			Available int `json:"available"`
		} `json:"capacity"`
	}
	tags := []string{"Runtimes"}
	register(w, api.Read, huma.Operation{OperationID: "list-runtimes", Method: http.MethodGet, Path: "/v1/runtimes", Tags: tags, Summary: "List runtimes"},
		func(ctx context.Context, in *struct{ Query }) (*output[runtimes], error) {
			found, err := list(ctx, []warpket.ID{api.CallerOf(ctx).Project}, func(r warpket.Runtime) warpket.ID { return r.ID }, always,
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Runtime, string, error) {
					return w.server.Store.Runtimes(ctx, project, postgres.RuntimeFilter{Created: new(true)}, page)
				})
			out := runtimes{Runtimes: []runtimeObject{}}
			for _, r := range found {
				out.Runtimes = append(out.Runtimes, toRuntime(r))
			}
			return &output[runtimes]{out}, err
		})
	register(w, api.Operate, huma.Operation{OperationID: "create-runtime", Method: http.MethodPost, Path: "/v1/runtimes", Tags: tags, Summary: "Create a runtime", DefaultStatus: http.StatusCreated},
		w.createRuntime)
	register(w, api.Read, huma.Operation{OperationID: "get-runtime", Method: http.MethodGet, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Show a runtime"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[runtimeObject], error) {
			r, _, err := w.runtime(ctx, in.ByID)
			return &output[runtimeObject]{toRuntime(r)}, err
		})
	register(w, api.Operate, huma.Operation{OperationID: "update-runtime", Method: http.MethodPut, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Update a runtime"}, w.updateRuntime)
	register(w, api.Operate, huma.Operation{OperationID: "delete-runtime", Method: http.MethodDelete, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Delete a runtime"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*struct{}, error) {
			r, ctx, err := w.runtime(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			role := api.CallerOf(ctx).Role
			err = w.server.Store.DeleteRuntime(ctx, r.ProjectID, r.ID, func(r warpket.Runtime) error { return r.MayBeChangedBy(role) })
			return nil, conflicting(err, "Runtime "+string(r.ID)+" is still in use.")
		})
	register(w, api.Operate, huma.Operation{OperationID: "get-runtime-pool", Method: http.MethodGet, Path: "/v1/runtimes/{id}/pool", Tags: tags, Summary: "Show the pool of a runtime"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[pool], error) {
			r, ctx, err := w.runtime(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			c, err := w.server.Store.RuntimeCapacity(ctx, "", r)
			out := pool{Name: string(r.ID)}
			out.Capacity.Total, out.Capacity.Available = c.Total, c.Available
			return &output[pool]{out}, err
		})
}

// runtime finds a runtime that somebody has created, and has an operator work in
// its project.
func (w *wire) runtime(ctx context.Context, in ByID) (r warpket.Runtime, _ context.Context, err error) {
	id, err := in.parse()
	if err != nil {
		return r, ctx, err
	}
	caller := api.CallerOf(ctx)
	if caller.Role == warpket.Operator {
		r, err = w.server.Store.Runtime(ctx, id)
	} else {
		r, err = w.server.Store.ProjectRuntime(ctx, caller.Project, id)
	}
	if err == nil && !r.Created() {
		err = warpket.Errorf(warpket.NotFound, "it is a build")
	}
	if err != nil {
		return r, ctx, notFound(err, "Runtime", "id=%s", id)
	}
	if caller.Role == warpket.Operator {
		ctx, err = api.In(ctx, r.ProjectID)
	}
	return r, ctx, err
}

func (w *wire) createRuntime(ctx context.Context, in *Sent) (*output[runtimeObject], error) {
	f, err := in.object("runtime", "name", "image", "description", "is_public", "trusted")
	if err != nil {
		return nil, err
	}
	var name, image, description string
	if err := f.texts(map[string]*string{"name": &name, "image": &image, "description": &description}); err != nil {
		return nil, err
	}
	if image == "" {
		return nil, invalid("Invalid input for field/attribute image. Mandatory field missing.")
	}
	public, err := f.flag("is_public", true)
	if err != nil {
		return nil, err
	}
	trusted, err := f.flag("trusted", true)
	if err != nil {
		return nil, err
	}
	b := api.CreateRuntimeRequest{Name: name, Description: description, IsPublic: public, Trusted: &trusted}
	if b.SDK, b.SDKVersion, b.Image, err = w.made(image); err != nil {
		return nil, err
	}
	if name == "" {
		b.Name = image
	}
	r, err := w.server.AddRuntime(ctx, b)
	return &output[runtimeObject]{toRuntime(r)}, err
}

func (w *wire) updateRuntime(ctx context.Context, in *struct {
	ByID
	Sent
},
) (*output[runtimeObject], error) {
	f, err := in.object("runtime", "name", "image", "description", "is_public", "trusted")
	if err != nil {
		return nil, err
	}
	if f.has("is_public") || f.has("trusted") {
		return nil, invalid("Only name, description and image of a runtime can be updated.")
	}
	r, ctx, err := w.runtime(ctx, in.ByID)
	if err != nil {
		return nil, err
	}
	var b api.UpdateRuntimeRequest
	var image, description string
	if err := f.texts(map[string]*string{"name": &b.Name, "image": &image, "description": &description}); err != nil {
		return nil, err
	}
	if f.has("description") {
		b.Description = &description
	}
	if image != "" && image != imageOf(r) {
		sdk, version, reference, err := w.made(image)
		if err != nil {
			return nil, err
		}
		if sdk != "" && (r.Image != nil || sdk != r.SDK) || reference != "" && r.Image == nil {
			return nil, invalid("Runtime %s is made of %s: create another one for %.100s.", r.ID, imageOf(r), image)
		}
		b.SDKVersion, b.Image = version, reference
		if !r.Status.Settled() {
			return nil, newFault(http.StatusConflict, "Runtime "+string(r.ID)+" is not available.")
		}
	}
	changed, err := w.server.ChangeRuntime(ctx, r.ID, b)
	if err != nil { // what is left to conflict with are running executions
		return nil, conflicting(err, "")
	}
	return &output[runtimeObject]{toRuntime(changed)}, nil
}
