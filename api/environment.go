package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Environment is what a function's code finds in its environment variables.
type Environment struct {
	Variables map[string]string `json:"variables" required:"false" maxProperties:"100" doc:"Values by variable" example:"{\"BACKEND\": \"ibm_brisbane\"}"`
	Secrets   map[string]string `json:"secrets" required:"false" maxProperties:"100" doc:"Names of the project's secrets by variable" example:"{\"TOKEN\": \"IBM_TOKEN\"}"`
}

func toEnvironment(e warpket.Environment) Environment {
	out := Environment{Variables: map[string]string{}, Secrets: map[string]string{}}
	maps.Copy(out.Variables, e.Variables)
	maps.Copy(out.Secrets, e.Secrets)
	return out
}

// revisionPromise says from when on a changed configuration holds.
const revisionPromise = "An execution that is asked for after the answer never runs with the earlier configuration, if it is asked for on the same server; on others that holds from a second later. What runs already, and what was asked for before, may end with the earlier one."

type environmentOutput struct {
	ETag string `header:"ETag" doc:"For If-Match"`
	Body Environment
}

// environmentAnswer has an ETag of what is in it, for a function's date is also
// that of other changes.
func environmentAnswer(e warpket.Environment) *environmentOutput {
	return &environmentOutput{environmentTag(e), toEnvironment(e)}
}

func environmentTag(e warpket.Environment) string {
	b, _ := json.Marshal(toEnvironment(e)) // texts by text, in their order: cannot fail
	return `"` + warpket.SHA256(b)[:32] + `"`
}

func (s *Server) addEnvironment() {
	tags := []string{"Functions"}
	register(s, Read, huma.Operation{
		OperationID: "get-environment", Method: http.MethodGet, Path: "/v1/functions/{functionId}/environment", Tags: tags, Summary: "Get the environment of a function",
		Description: "Secrets by their names, never their values.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *FunctionInput) (*environmentOutput, error) {
		id, err := warpket.ParseID("function", in.FunctionID)
		if err != nil {
			return nil, err
		}
		e, err := s.Store.Environment(ctx, projectOf(ctx), id)
		return environmentAnswer(e), err
	}, byPath)
	register(s, Write, huma.Operation{
		OperationID: "set-environment", Method: http.MethodPut, Path: "/v1/functions/{functionId}/environment", Tags: tags, Summary: "Set the environment of a function",
		Description: "Replaces it as a whole, and then the function's slots, those that are idle first. At most 100 variables and 128 KiB together, the values of secrets included. " + revisionPromise,
		Errors:      []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *struct {
		FunctionInput
		MatchInput
		Body Environment
	},
	) (*environmentOutput, error) {
		id, err := warpket.ParseID("function", in.FunctionID)
		if err != nil {
			return nil, err
		}
		e := warpket.Environment{Variables: in.Body.Variables, Secrets: in.Body.Secrets}
		if err := e.Check(nil); err != nil {
			return nil, err
		}
		if len(e.Secrets) > 0 {
			if err := s.Secrets.Ready(); err != nil {
				return nil, err
			}
			if err := s.mayBindAll(ctx, id, e); err != nil {
				return nil, err
			}
		}
		defer s.targets.drop()
		return environmentAnswer(e), s.Store.SetEnvironment(ctx, projectOf(ctx), id, e, s.Now(), func(now warpket.Environment) error {
			return in.checkTag("environment", environmentTag(now))
		})
	}, byPath)
}

// mayBindAll refuses secrets that a function does not have yet to those who may
// give it none.
func (s *Server) mayBindAll(ctx context.Context, function warpket.ID, e warpket.Environment) error {
	if callerOf(ctx).token.Functions == nil {
		return nil
	}
	old, err := s.Store.Environment(ctx, projectOf(ctx), function)
	if err != nil {
		return err
	}
	has := slices.Collect(maps.Values(old.Secrets))
	for variable, name := range e.Secrets {
		if !slices.Contains(has, name) {
			return mayBind(ctx, "secrets."+variable)
		}
	}
	return nil
}
