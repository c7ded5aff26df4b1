package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Alias is a name for one version of a function, or for several.
type Alias struct {
	Name        string    `json:"name" doc:"Its name, unique in the project" example:"bell-prod"`
	Description string    `json:"description" doc:"What it is for" example:"What notebooks run"`
	FunctionID  string    `json:"functionId" doc:"ID of the function"`
	Version     *int      `json:"version,omitempty" doc:"Number of the version, if it is only one; 0 for the draft" example:"3"`
	Versions    []Route   `json:"versions" nullable:"false" doc:"The versions that it stands for"`
	CreatedDate time.Time `json:"createdDate" doc:"When it was created"`
	UpdatedDate time.Time `json:"updatedDate" doc:"When it last changed"`
}

// Route is one version of an alias with its share of the executions.
type Route struct {
	Version int `json:"version" minimum:"1" maximum:"2147483647" doc:"Number of the version; the draft of a function, which only other wires can name, is shown as 0" example:"3"`
	Weight  int `json:"weight" minimum:"0" maximum:"1000000" doc:"Its share of the sum of all weights" example:"90"`
}

func toAlias(a warpket.Alias) Alias {
	out := Alias{Name: a.Name, Description: a.Description, FunctionID: string(a.FunctionID), Versions: make([]Route, len(a.Routes)), CreatedDate: a.CreatedDate, UpdatedDate: a.UpdatedDate}
	for i, r := range a.Routes {
		out.Versions[i] = Route{r.Version, r.Weight}
	}
	if len(a.Routes) == 1 {
		out.Version = &a.Routes[0].Version
	}
	return out
}

// AliasTarget is what an alias stands for. It is exported for huma, which reads
// no other embedded fields.
type AliasTarget struct {
	Version  int     `json:"version,omitempty" minimum:"1" maximum:"2147483647" doc:"Number of the version that it stands for, in the place of versions" example:"3"`
	Versions []Route `json:"versions,omitempty" nullable:"false" maxItems:"10" doc:"The versions that it stands for: each execution runs one of them, chosen at random by weight"`
}

// set reports whether it says anything.
func (t AliasTarget) set() bool { return t.Version != 0 || len(t.Versions) > 0 }

// apply has an alias stand for it.
func (t AliasTarget) apply(a *warpket.Alias) error {
	if t.Version != 0 && len(t.Versions) > 0 {
		return warpket.Errorf(warpket.Invalid, "give version for one, or versions for several with weights, not both").At("versions")
	}
	a.Routes = nil
	if t.Version != 0 {
		a.Routes = []warpket.Route{{Version: t.Version, Weight: 1}}
	}
	for _, r := range t.Versions {
		a.Routes = append(a.Routes, warpket.Route{Version: r.Version, Weight: r.Weight})
	}
	return a.Check()
}

// CreateAliasRequest asks for an alias.
type CreateAliasRequest struct {
	Name        string `json:"name" maxLength:"63" doc:"2 to 63 of a-z, 0-9 and -, unique in the project" example:"bell-prod"`
	FunctionID  string `json:"functionId" maxLength:"64" doc:"ID of the function" example:"01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a"`
	Description string `json:"description,omitempty" maxLength:"4096" doc:"What it is for" example:"What notebooks run"`
	AliasTarget
}

// UpdateAliasRequest changes what it sets.
type UpdateAliasRequest struct {
	FunctionID  string  `json:"functionId,omitempty" maxLength:"64" doc:"ID of another function; then say its version or versions, too"`
	Description *string `json:"description,omitempty" maxLength:"4096" doc:"What it is for" example:"What notebooks run"`
	AliasTarget
}

type (
	// AliasInput names an alias in a path. It is exported for huma, which
	// reads no other embedded fields.
	AliasInput struct {
		Name string `path:"name" maxLength:"255" doc:"Name of the alias" example:"bell-prod"`
	}
	aliasOutput struct {
		ETag string `header:"ETag" doc:"What If-Match takes"`
		Body Alias
	}
)

func aliasAnswer(a warpket.Alias) *aliasOutput { return &aliasOutput{etag(a.UpdatedDate), toAlias(a)} }

func (s *Server) addAliases() {
	tags := []string{"Aliases"}
	register(s, Read, huma.Operation{
		OperationID: "list-aliases", Method: http.MethodGet, Path: "/v1/aliases", Tags: tags, Summary: "List aliases",
	}, func(ctx context.Context, in *struct {
		PageInput
		FunctionID string `query:"functionId" maxLength:"64" doc:"Only those of this function"`
		Version    int    `query:"version" minimum:"1" maximum:"2147483647" doc:"Only those that stand for the version with this number, among others; needs functionId"`
	},
	) (*listOutput[Alias], error) {
		filter := postgres.AliasFilter{Functions: reachable(ctx)}
		if in.FunctionID != "" {
			id, err := warpket.ParseID("function", in.FunctionID)
			if err != nil {
				return list[warpket.Alias](nil, "", toAlias), nil //nolint:nilerr // no such function has no aliases
			}
			filter.FunctionID = id
		}
		if in.Version != 0 {
			if in.FunctionID == "" {
				return nil, warpket.Errorf(warpket.Invalid, "the number of a version says little without its function: give functionId, too").At("query.functionId")
			}
			filter.Version = &in.Version
		}
		items, next, err := s.Store.Aliases(ctx, projectOf(ctx), filter, in.page())
		return list(items, next, toAlias), err
	}, byFilter)
	register(s, Write, huma.Operation{
		OperationID: "create-alias", Method: http.MethodPost, Path: "/v1/aliases", Tags: tags, Summary: "Create an alias", DefaultStatus: http.StatusOK,
		Description: "Executions name it in the place of a function and a version. What it stands for can be changed; a version that it stands for cannot be deleted.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, s.createAlias, byLoading)
	register(s, Read, huma.Operation{
		OperationID: "get-alias", Method: http.MethodGet, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Get an alias", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *AliasInput) (*aliasOutput, error) {
		a, err := s.Store.Alias(ctx, projectOf(ctx), in.Name)
		if err != nil {
			return nil, err
		}
		return aliasAnswer(a), mayReachAlias(ctx, a)
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "update-alias", Method: http.MethodPatch, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Change an alias",
		Description: "Changes what is set and leaves the rest; version or versions replace all that it stood for. An execution that is asked for after the answer runs what it stands for now, if it is asked for on the same server; on others that holds from a second later.",
		Errors:      []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, s.updateAlias, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "delete-alias", Method: http.MethodDelete, Path: "/v1/aliases/{name}", Tags: tags, Summary: "Delete an alias", DefaultStatus: http.StatusNoContent,
		Description: "Refused while a webhook executes it, or a schedule that is running or paused.", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *AliasInput) (*struct{}, error) {
		return nil, s.RemoveAlias(ctx, in.Name)
	}, byLoading)
}

func mayReachAlias(ctx context.Context, a warpket.Alias) error {
	return mayReachThe(ctx, "alias", a.Name, a.FunctionID)
}

// mayAim refuses to have a function or an alias executed by something else when
// the caller's token is not for it.
func (s *Server) mayAim(ctx context.Context, function warpket.ID, alias string) error {
	if alias == "" || reachable(ctx) == nil {
		return mayReach(ctx, function)
	}
	a, err := s.Store.Alias(ctx, projectOf(ctx), alias)
	if err != nil {
		return err
	}
	return mayReachAlias(ctx, a)
}

func (s *Server) createAlias(ctx context.Context, in *struct{ Body CreateAliasRequest }) (*aliasOutput, error) {
	b := in.Body
	if err := warpket.CheckName("alias", b.Name); err != nil {
		return nil, err
	}
	function, err := warpket.ParseID("function", b.FunctionID)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	a := warpket.Alias{ID: s.newID(ctx), ProjectID: projectOf(ctx), Name: b.Name, Description: b.Description, FunctionID: function, CreatedDate: now, UpdatedDate: now}
	if err := b.apply(&a); err != nil {
		return nil, err
	}
	if err := s.AddAlias(ctx, a); err != nil {
		return nil, err
	}
	return aliasAnswer(a), nil
}

// AddAlias adds an alias, if it can be one. Each wire says what may name one.
func (s *Server) AddAlias(ctx context.Context, a warpket.Alias) error {
	if err := a.Check(); err != nil {
		return err
	}
	if err := mayReach(ctx, a.FunctionID); err != nil {
		return err
	}
	defer s.aliases.drop()
	return s.Store.CreateAlias(ctx, a)
}

// ChangeAlias has change alter an alias.
func (s *Server) ChangeAlias(ctx context.Context, name string, change func(*warpket.Alias) error) (warpket.Alias, error) {
	defer s.aliases.drop()
	return s.Store.UpdateAlias(ctx, projectOf(ctx), name, s.Now(), func(a *warpket.Alias) error {
		if err := mayReachAlias(ctx, *a); err != nil {
			return err
		}
		if err := change(a); err != nil {
			return err
		}
		if err := mayReach(ctx, a.FunctionID); err != nil {
			return err
		}
		return a.Check()
	})
}

// RemoveAlias deletes an alias that no webhook executes and no schedule.
func (s *Server) RemoveAlias(ctx context.Context, name string) error {
	defer s.aliases.drop()
	return s.Store.DeleteAlias(ctx, projectOf(ctx), name, func(a warpket.Alias) error { return mayReachAlias(ctx, a) })
}

func (s *Server) updateAlias(ctx context.Context, in *struct {
	AliasInput
	MatchInput
	Body UpdateAliasRequest
},
) (*aliasOutput, error) {
	b := in.Body
	a, err := s.ChangeAlias(ctx, in.Name, func(a *warpket.Alias) error {
		if err := in.check("alias", a.UpdatedDate); err != nil {
			return err
		}
		if b.Description != nil {
			a.Description = *b.Description
		}
		if b.FunctionID != "" && b.FunctionID != string(a.FunctionID) {
			id, err := warpket.ParseID("function", b.FunctionID)
			if err != nil {
				return err
			}
			if !b.set() {
				return warpket.Errorf(warpket.Invalid, "the versions of the alias are those of another function: say which of this one it is to stand for").At("version")
			}
			a.FunctionID = id
		}
		if !b.set() {
			return nil
		}
		return b.apply(a)
	})
	if err != nil {
		return nil, err
	}
	return aliasAnswer(a), nil
}
