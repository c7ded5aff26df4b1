package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Template is a starter for functions.
type Template struct {
	Tag               string         `json:"tag" doc:"Language tag, as templateLanguageTag of a function" example:"Qiskit"`
	SDK               string         `json:"sdk" doc:"Package name of the SDK; python is the plain interpreter" example:"qiskit"`
	SDKVersions       []string       `json:"sdkVersions" nullable:"false" doc:"Releases that the nodes can run, newest first; empty in lists"`
	DefaultSDKVersion string         `json:"defaultSdkVersion" doc:"The version that is taken when none is asked for; empty in lists"`
	Description       string         `json:"description" doc:"What it is for"`
	Entry             string         `json:"entry" doc:"module.function that an execution calls" example:"handler.handler"`
	Targets           []string       `json:"targets" nullable:"false" doc:"Where its functions can run; the first is taken unless an execution names another" example:"[\"simulator\"]"`
	Files             []TemplateFile `json:"files" nullable:"false" doc:"What a new function starts with"`
	Examples          []TemplateFile `json:"examples" nullable:"false" doc:"More programs: each to be put in the place of the main file"`
}

// TemplateFile is a file to start with.
type TemplateFile struct {
	Filename string `json:"filename" doc:"Path from the function's folder" example:"handler.py"`
	Language string `json:"language" doc:"Language of the file, for editors" example:"python"`
	Content  string `json:"content" doc:"The text"`
}

func toTemplate(t warpket.Template) Template {
	out := Template{Tag: t.Tag, SDK: t.SDK, SDKVersions: []string{}, Description: t.Description, Entry: t.Entry, Targets: []string{}, Files: toTemplateFiles(t.Files), Examples: toTemplateFiles(t.Examples)}
	for _, target := range t.Targets {
		out.Targets = append(out.Targets, string(target))
	}
	return out
}

func toTemplateFiles(files []warpket.TemplateFile) []TemplateFile {
	out := make([]TemplateFile, len(files))
	for i, f := range files {
		out[i] = TemplateFile(f)
	}
	return out
}

func (s *Server) addTemplates() {
	register(s, Read, huma.Operation{
		OperationID: "list-templates", Method: http.MethodGet, Path: "/v1/templates", Tags: []string{"Templates"},
		Summary: "List templates",
	}, func(context.Context, *struct{}) (*listOutput[Template], error) {
		return list(s.Catalog.Templates(), "", toTemplate), nil
	}, noFunction)
	register(s, Read, huma.Operation{
		OperationID: "get-template", Method: http.MethodGet, Path: "/v1/templates/{tag}", Tags: []string{"Templates"},
		Summary: "Get a template", Description: "With the SDK versions that can be asked for. They come from the package index; what was known last is used while it cannot be reached.",
		Errors: []int{http.StatusNotFound},
	}, s.getTemplate, noFunction)
}

type templateOutput struct{ Body Template }

func (s *Server) getTemplate(ctx context.Context, in *struct {
	Tag string `path:"tag" maxLength:"64" doc:"Language tag" example:"Qiskit"`
},
) (*templateOutput, error) {
	t, err := s.Catalog.Template(in.Tag)
	if err != nil {
		return nil, warpket.Errorf(warpket.NotFound, "%s", err.Error())
	}
	out := toTemplate(t)
	pythons, err := s.Store.Pythons(ctx)
	if err != nil {
		return nil, err
	}
	if out.SDKVersions, err = s.Catalog.Versions(ctx, t, pythons); err != nil {
		return nil, err
	}
	if out.DefaultSDKVersion = t.DefaultVersion; out.DefaultSDKVersion == "" && len(out.SDKVersions) > 0 {
		out.DefaultSDKVersion = out.SDKVersions[0]
	}
	return &templateOutput{out}, nil
}
