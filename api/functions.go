package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
)

// Function is a function in lists and after a change.
type Function struct {
	FunctionID          string    `json:"functionId" doc:"ID of the function"`
	FunctionName        string    `json:"functionName" doc:"Its name, unique in the project" example:"bell"`
	Source              string    `json:"source" enum:"files,package,object,image,git" doc:"Where the code of its newest version came from; each version says more"`
	TemplateLanguageTag string    `json:"templateLanguageTag" doc:"The template that it was made from; empty for an image" example:"Qiskit"`
	Description         string    `json:"description" doc:"What it does"`
	SDK                 string    `json:"sdk" doc:"Package name of its SDK; empty for an image" example:"qiskit"`
	SDKVersion          string    `json:"sdkVersion" doc:"Version of its SDK; empty for an image" example:"0.45.3"`
	Image               string    `json:"image,omitempty" doc:"Reference of its newest version's image, as it was given; absent for files" example:"registry.example/bell:1"`
	ImageDigest         string    `json:"imageDigest,omitempty" doc:"Digest that the reference stood for when that version was published"`
	Credentials         string    `json:"credentials,omitempty" doc:"Name of the secret that the registry of its images is given"`
	Entry               string    `json:"entry" doc:"module.function that the next version is called by; empty for an image" example:"handler.handler"`
	Lane                string    `json:"lane" enum:"durable,express" doc:"How its executions are driven unless they say otherwise"`
	Reuse               string    `json:"reuse" enum:"process,none" doc:"Whether a worker serves more than one execution"`
	Network             string    `json:"network" enum:"none,egress" doc:"What its code may reach"`
	Retries             int       `json:"retries" doc:"Attempts after the first when an execution fails"`
	Resources           Resources `json:"resources" doc:"What its workers may use"`
	CreatedDate         time.Time `json:"createdDate" doc:"When it was created"`
	UpdatedDate         time.Time `json:"updatedDate" doc:"When it last changed"`
	Label               string    `json:"label,omitempty" doc:"A freer name, not unique; absent for none" example:"Bell state, two qubits"`
	RuntimeID           string    `json:"runtimeId,omitempty" doc:"The runtime that it was created with; absent for one that was created with a template or as an image"`
	Gateway             string    `json:"gateway" enum:"off,token,public" doc:"Who may reach it through its gateway: nobody, those who may execute it, or everybody"`
	GatewayURL          string    `json:"gatewayUrl" doc:"Where it serves HTTP, as a path on this server; what follows it reaches the handler as event.path" example:"/gateway/01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a/"`
}

func toFunction(f warpket.Function) Function {
	out := Function{
		Source: sourceOf(f.Source), Credentials: f.Settings.Credentials,
		FunctionID: string(f.ID), FunctionName: f.Name, TemplateLanguageTag: f.TemplateTag, Description: f.Description, SDK: f.SDK, SDKVersion: f.SDKVersion,
		Entry: f.Settings.Entry, Lane: string(cmp.Or(f.Settings.Lane, warpket.Durable)), Reuse: string(f.Settings.Reuse), Network: string(f.Settings.Network), Retries: f.Settings.Retries, Resources: toResources(f.Settings.Resources),
		CreatedDate: f.CreatedDate, UpdatedDate: f.UpdatedDate, Label: f.Label, RuntimeID: string(f.RuntimeID), Gateway: string(f.Settings.Gateway), GatewayURL: gatewayPath + string(f.ID) + "/",
	}
	if f.Image != nil {
		out.Source, out.Image, out.ImageDigest = imageSource, f.Image.Reference, f.Image.Digest()
	}
	return out
}

// Where the code of a function comes from.
const (
	filesSource = "files"
	imageSource = "image"
)

// CreatedFunction is a function that has just been created.
type CreatedFunction struct {
	FunctionID          string          `json:"functionId" doc:"ID of the function"`
	FunctionName        string          `json:"functionName" doc:"Its name" example:"bell"`
	TemplateLanguageTag string          `json:"templateLanguageTag" doc:"The template that it was made from; empty for an image" example:"Qiskit"`
	Description         string          `json:"description" doc:"What it does"`
	SDK                 string          `json:"sdk" doc:"Package name of its SDK; empty for an image" example:"qiskit"`
	SDKVersion          string          `json:"sdkVersion" doc:"Version of its SDK; empty for an image" example:"0.45.3"`
	TemplateFiles       []Source        `json:"templateFiles" nullable:"false" doc:"The files that it starts with"`
	FunctionVersion     FunctionVersion `json:"functionVersion" doc:"Its first version"`
}

// FunctionDetails is all about a function.
type FunctionDetails struct {
	Function
	Name        string            `json:"name" doc:"The same as functionName"`
	Sources     []Source          `json:"sources" nullable:"false" doc:"Files of the newest version; of the draft before the first"`
	Version     int               `json:"version" doc:"Number of the newest version; 0 before the first"`
	VersionList []FunctionVersion `json:"versionList" nullable:"false" doc:"Versions, newest first; at most 200"`
	Status      string            `json:"status" enum:"created,deploying,deployed,failed" doc:"How its deployments stand: deployed if any serves"`
	Deployments []Deployment      `json:"deployments" nullable:"false" doc:"Its deployments, newest first; at most 200"`
	Logs        []string          `json:"logs" nullable:"false" doc:"The last 100 lines that its latest execution wrote"`
	Executions  int64             `json:"executions" doc:"How many executions it has had, also those that are listed no longer"`
}

// Source is one file with its content.
type Source struct {
	Filename      string `json:"filename" doc:"Path from the function's folder" example:"handler.py"`
	Language      string `json:"language" doc:"Language of the file, for editors" example:"python"`
	Content       string `json:"content" doc:"The text; empty for a file that is not text"`
	ContentBase64 string `json:"contentBase64,omitempty" doc:"The bytes of a file that is not text"`
	FileID        string `json:"fileId" doc:"ID of the file, by which a next version can take it over"`
}

type (
	// FunctionInput names a function in a path. It is exported for huma, which reads no
	// other embedded fields.
	FunctionInput struct {
		FunctionID string `path:"functionId" maxLength:"64" doc:"ID of the function"`
	}
	functionOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Function
	}
	createdFunctionOutput struct{ Body CreatedFunction }
	functionDetailsOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body FunctionDetails
	}
)

// FunctionSettings are what can be set on a function, on creation or later.
type FunctionSettings struct {
	Entry     string     `json:"entry,omitempty" maxLength:"257" doc:"module.function that an execution calls; the template's unless set" example:"handler.handler"`
	Lane      string     `json:"lane,omitempty" enum:"durable,express" doc:"How executions are driven that do not say otherwise. durable: by a Temporal workflow; express: by the server, which is faster. Unless set, durable, but express through the gateway"`
	Reuse     string     `json:"reuse,omitempty" enum:"process,none" doc:"process keeps a worker between executions; none takes a fresh one for each"`
	Network   string     `json:"network,omitempty" enum:"none,egress" doc:"none, which is the default, or egress: public addresses, through the node's proxy, if the project may"`
	Retries   *int       `json:"retries,omitempty" minimum:"0" maximum:"10" doc:"Attempts after the first when an execution fails; 0 unless set"`
	Resources *Resources `json:"resources,omitempty" doc:"What its workers may use"`

	Credentials *string `json:"credentials,omitempty" maxLength:"64" doc:"Name of a secret of the project that the registry of its images is given; the secret's value is the JSON {\"username\", \"password\"} or {\"token\"}. Empty for none; it holds for what is pulled from then on" example:"REGISTRY"`
	Gateway     string  `json:"gateway,omitempty" enum:"off,token,public" doc:"Who may reach it through its gateway, /gateway/{functionId}/…: off for nobody, token for who may execute it, public for everybody who knows its ID; token unless set"`
}

// apply sets what is set, on a function of files or one that comes as an image.
func (c FunctionSettings) apply(s *warpket.Settings, image bool) error {
	c.set(s)
	if image {
		return s.CheckForImage()
	}
	return s.Check()
}

func (c FunctionSettings) set(s *warpket.Settings) {
	if c.Entry != "" {
		s.Entry = c.Entry
	}
	if c.Lane != "" {
		s.Lane = warpket.Lane(c.Lane)
	}
	if c.Reuse != "" {
		s.Reuse = warpket.Reuse(c.Reuse)
	}
	if c.Network != "" {
		s.Network = warpket.Network(c.Network)
	}
	if c.Retries != nil {
		s.Retries = *c.Retries
	}
	if c.Credentials != nil {
		s.Credentials = *c.Credentials
	}
	if c.Gateway != "" {
		s.Gateway = warpket.Gateway(c.Gateway)
	}
	s.Resources = c.Resources.domain().Or(s.Resources)
}

// CreateFunctionRequest asks for a function.
type CreateFunctionRequest struct {
	FunctionName        string       `json:"functionName" minLength:"1" maxLength:"255" doc:"2 to 63 of a-z, 0-9 and -, unique in the project" example:"bell"`
	Source              string       `json:"source,omitempty" enum:"files,package,object,image,git" doc:"Where its code comes from: files, which are the template's; a package, an object or a Git repository, which the property of that name tells; or an OCI image. Files unless set, or what the properties say"`
	SDKVersion          string       `json:"sdkVersion,omitempty" maxLength:"64" doc:"A release of the template's SDK; its default unless set. Not for an image" example:"0.45.3"`
	TemplateLanguageTag string       `json:"templateLanguageTag,omitempty" maxLength:"64" doc:"Tag of a template, see GET /v1/templates; needed unless it comes as an image or has a runtimeId" example:"Qiskit"`
	RuntimeID           string       `json:"runtimeId,omitempty" maxLength:"64" doc:"A runtime that was created with POST /v1/runtimes, in place of templateLanguageTag and sdkVersion. Its versions are made of files, and get what the runtime is made of when they are published"`
	TemplateFiles       []SourceFile `json:"templateFiles,omitempty" nullable:"false" maxItems:"1000" doc:"All files of its first version, in place of the template's; needed if its runtime is an image and they come from nowhere else. None by fileId"`
	ImageSource
	CodeSource
	Description string `json:"description,omitempty" maxLength:"4096" doc:"What it does"`
	FunctionSettings
	Label string `json:"label,omitempty" maxLength:"255" doc:"A freer name, which need not be unique" example:"Bell state, two qubits"`
}

// UpdateFunctionRequest changes what it sets.
type UpdateFunctionRequest struct {
	FunctionName string  `json:"functionName,omitempty" maxLength:"63" doc:"A new name" example:"bell-2"`
	Description  *string `json:"description,omitempty" maxLength:"4096" doc:"What it does"`
	FunctionSettings
	Label *string `json:"label,omitempty" maxLength:"255" doc:"A freer name, which need not be unique; empty for none"`
}

// ReplaceFunctionRequest sets all that can be set: what is left out is again what
// it is on a function that has just been created.
type ReplaceFunctionRequest struct {
	FunctionName string `json:"functionName" minLength:"1" maxLength:"63" doc:"Its name" example:"bell"`
	Description  string `json:"description,omitempty" maxLength:"4096" doc:"What it does"`
	FunctionSettings
	Label string `json:"label,omitempty" maxLength:"255" doc:"A freer name, which need not be unique"`
}

// FunctionConditions narrow a list of functions. It is exported for huma, which
// reads no other embedded fields.
type FunctionConditions struct {
	Name        string `query:"name" maxLength:"1000" doc:"By name: eq, in, has" example:"bell"`
	Label       string `query:"label" maxLength:"1000" doc:"By label: eq, in, has" example:"has:qubits"`
	Description string `query:"description" maxLength:"1000" doc:"By description: has, eq" example:"has:two qubits"`
	Tag         string `query:"templateLanguageTag" maxLength:"1000" doc:"By template: eq, in" example:"Qiskit"`
	SDK         string `query:"sdk" maxLength:"1000" doc:"By the package name of the SDK: eq, in" example:"in:qiskit,cirq"`
	SDKVersion  string `query:"sdkVersion" maxLength:"1000" doc:"By the version of the SDK: eq, in" example:"0.45.3"`
	Created     string `query:"createdDate" maxLength:"100" doc:"By when it was created: gte, gt, lt, lte" example:"gte:2026-11-27T15:00:00Z"`
	Updated     string `query:"updatedDate" maxLength:"100" doc:"By when it last changed: gte, gt, lt, lte" example:"gte:2026-11-27T15:00:00Z"`
}

func (c FunctionConditions) filter() (f postgres.FunctionFilter, err error) {
	text := []warpket.Op{warpket.Eq, warpket.In, warpket.Has}
	word := []warpket.Op{warpket.Eq, warpket.In}
	time := []warpket.Op{warpket.Gte, warpket.Gt, warpket.Lt, warpket.Lte}
	err = conditions(
		asked{&f.Name, "name", c.Name, text},
		asked{&f.Label, "label", c.Label, text},
		asked{&f.Description, "description", c.Description, []warpket.Op{warpket.Has, warpket.Eq}},
		asked{&f.TemplateTag, "templateLanguageTag", c.Tag, word},
		asked{&f.SDK, "sdk", c.SDK, word},
		asked{&f.SDKVersion, "sdkVersion", c.SDKVersion, word},
		asked{&f.CreatedDate, "createdDate", c.Created, time},
		asked{&f.UpdatedDate, "updatedDate", c.Updated, time},
	)
	return f, err
}

// DeletedFunction names a function that is gone.
type DeletedFunction struct {
	FunctionID string `json:"functionId" doc:"ID of the function that is gone"`
}

func (s *Server) addFunctions() {
	tags := []string{"Functions"}
	register(s, Write, huma.Operation{
		OperationID: "create-function", Parameters: idempotencyKey(), Method: http.MethodPost, Path: "/v1/functions", Tags: tags, Summary: "Create a function", DefaultStatus: http.StatusOK,
		Description:  "Renders the template at the SDK version, stores its files and publishes them as version 1. With the source image, it asks the registry what the reference stands for, and publishes that. With package, object or git, the files come from there instead of from the template, which tells the SDK. Nothing is left behind when it fails." + formDoc,
		MaxBodyBytes: versionBody, BodyReadTimeout: time.Minute, RequestBody: formBody[CreateFunctionRequest](s), Metadata: map[string]any{takesForm: true},
		Errors: []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity},
	}, s.createFunction, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "list-functions", Method: http.MethodGet, Path: "/v1/functions", Tags: tags, Summary: "List functions",
		Description: "A filter is a value, or operator:value, as in has:bell or gte:2026-11-27T15:00:00Z. in takes several values with commas between them; has finds what holds a text. All filters have to hold.",
	}, func(ctx context.Context, in *struct {
		PageInput
		FunctionConditions
	},
	) (*listOutput[Function], error) {
		filter, err := in.filter()
		if err != nil {
			return nil, err
		}
		filter.IDs = reachable(ctx)
		items, next, err := s.Store.Functions(ctx, projectOf(ctx), filter, in.page())
		return list(items, next, toFunction), err
	}, byFilter)
	register(s, Read, huma.Operation{
		OperationID: "get-function", Method: http.MethodGet, Path: "/v1/functions/{functionId}", Tags: tags, Summary: "View function details",
		Description: "With the files of its newest version, its versions, its deployments and the end of its latest log.", Errors: []int{http.StatusNotFound},
	}, s.getFunction, byPath)
	register(s, Write, huma.Operation{
		OperationID: "replace-function", Method: http.MethodPut, Path: "/v1/functions/{functionId}", Tags: tags, Summary: "Set all of a function",
		Description: "Sets all that can be set: what is left out is as on a function that has just been created. " + changeEffect,
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}, s.replaceFunction, byPath)
	register(s, Write, huma.Operation{
		OperationID: "update-function", Method: http.MethodPatch, Path: "/v1/functions/{functionId}", Tags: tags, Summary: "Change a function",
		Description: "Changes what is set and leaves the rest. " + changeEffect,
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}, s.updateFunction, byPath)
	register(s, Write, huma.Operation{
		OperationID: "delete-function", Method: http.MethodDelete, Path: "/v1/functions/{functionId}", Tags: tags, Summary: "Delete a function", DefaultStatus: http.StatusOK,
		Description: "Its deployments give their slots back, its aliases, webhooks and schedules go with it; its executions stay listed. Refused while an execution is queued or running, unless forced.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, s.deleteFunction, byPath)
}

const changeEffect = "A changed entry holds for versions that are published after it, and for a draft that was set; changed reuse or network has the function's slots replaced, and everything else holds for the next execution or deployment. " + revisionPromise

func (s *Server) createFunction(ctx context.Context, in *struct{ Body CreateFunctionRequest }) (*createdFunctionOutput, error) {
	f, v, err := s.newFunction(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	return s.addFunction(ctx, f, v)
}

// newFunction makes a function of what a request brings, with its code. Neither
// is in the database yet.
func (s *Server) newFunction(ctx context.Context, b CreateFunctionRequest) (f warpket.Function, v warpket.Version, err error) {
	if err := warpket.CheckName("function", b.FunctionName); err != nil {
		return f, v, err
	}
	if err := errors.Join(warpket.CheckLabel(b.Label), warpket.CheckDescription(b.Description), b.checkSource()); err != nil {
		return f, v, err
	}
	if b.Source == imageSource {
		return s.newImageFunction(ctx, b)
	}
	if err := b.refuse(); err != nil {
		return f, v, err
	}
	if b.RuntimeID != "" {
		return s.newOnRuntime(ctx, b)
	}
	if b.TemplateLanguageTag == "" {
		return f, v, warpket.Errorf(warpket.Invalid, "templateLanguageTag is missing: give the tag of a template, see GET /v1/templates, or the runtimeId of a runtime, or say \"source\": \"image\"").At("templateLanguageTag")
	}
	template, err := s.Catalog.Template(b.TemplateLanguageTag)
	if err != nil {
		return f, v, err
	}
	settings := warpket.NewSettings(template.Entry)
	if err := b.apply(&settings, false); err != nil {
		return f, v, err
	}
	runtime, err := s.runtimeFor(ctx, template, b.SDKVersion)
	if err != nil {
		return f, v, err
	}
	now, project := s.Now(), projectOf(ctx)
	f = warpket.Function{
		ID: s.newID(ctx), ProjectID: project, Name: b.FunctionName, Description: b.Description, TemplateTag: template.Tag,
		SDK: runtime.SDK, SDKVersion: runtime.SDKVersion, Settings: settings, CreatedDate: now, UpdatedDate: now, Label: b.Label,
	}
	sources, from, err := s.firstFiles(ctx, f, template, b)
	if err != nil {
		return f, v, err
	}
	if runtime, err = s.runtimeRequired(ctx, project, runtime, sources); err != nil {
		return f, v, err
	}
	v, err = s.snapshot(ctx, f, runtime, "", sources)
	if err != nil {
		return f, v, err
	}
	v.Snapshot.Source = from
	return f, v, nil
}

// addFunction writes a new function with its first version, and answers it.
func (s *Server) addFunction(ctx context.Context, f warpket.Function, v warpket.Version) (*createdFunctionOutput, error) {
	if err := s.Store.CreateFunction(ctx, f, v); err != nil {
		return nil, err
	}
	v, err := s.Store.Version(ctx, f.ProjectID, f.ID, 1)
	if err != nil {
		return nil, err
	}
	files, err := s.sources(ctx, v.Snapshot)
	if err != nil {
		return nil, err
	}
	return &createdFunctionOutput{CreatedFunction{
		FunctionID: string(f.ID), FunctionName: f.Name, TemplateLanguageTag: f.TemplateTag, Description: f.Description, SDK: f.SDK, SDKVersion: f.SDKVersion,
		TemplateFiles: files, FunctionVersion: toVersion(v),
	}}, nil
}

// runtimeFor finds the runtime that a template has at an SDK version.
func (s *Server) runtimeFor(ctx context.Context, t warpket.Template, version string) (warpket.Runtime, error) {
	pythons, err := s.Store.Pythons(ctx)
	if err != nil {
		return warpket.Runtime{}, err
	}
	if len(pythons) == 0 {
		return warpket.Runtime{}, warpket.Errorf(warpket.Unavailable, "no node has joined yet, so it is not known which Python functions can run on: start one with \"warpket node\"")
	}
	release, err := s.Catalog.Resolve(ctx, t, version, pythons)
	if err != nil {
		return warpket.Runtime{}, err
	}
	return s.Store.EnsureRuntime(ctx, warpket.Runtime{
		ID:          warpket.NewID(s.Now()),
		RuntimeKey:  warpket.RuntimeKey{SDK: release.SDK, SDKVersion: release.Version, Python: release.Python, Platform: s.Platform},
		TemplateTag: t.Tag, LockedUntil: release.Until, CreatedDate: s.Now(),
	})
}

// runtimeRequired finds the runtime for files: like the given one, with the
// requirements that are among them.
func (s *Server) runtimeRequired(ctx context.Context, project warpket.ID, like warpket.Runtime, files []newFile) (warpket.Runtime, error) {
	var lines []string
	for i, f := range files {
		if f.Path != warpket.RequirementsFile {
			continue
		}
		content := f.content
		var err error
		if f.stored {
			if content, err = s.Blobs.Get(ctx, project, f.SHA256); err != nil {
				return like, err
			}
		}
		if lines, err = warpket.ParseRequirements(string(content)); err != nil {
			if e, ok := errors.AsType[*warpket.Error](err); ok {
				return like, e.At("templateFiles[%d].content", i)
			}
			return like, err
		}
	}
	r := like.Requiring(project, lines)
	if r.RuntimeKey == like.RuntimeKey {
		return like, nil
	}
	r.ID, r.CreatedDate = warpket.NewID(s.Now()), s.Now()
	return s.Store.EnsureRuntime(ctx, r)
}

func (s *Server) getFunction(ctx context.Context, in *FunctionInput) (*functionDetailsOutput, error) {
	id, err := warpket.ParseID("function", in.FunctionID)
	if err != nil {
		return nil, err
	}
	f, err := s.Store.Function(ctx, projectOf(ctx), id)
	if err != nil {
		return nil, err
	}
	out, err := s.details(ctx, f)
	return &functionDetailsOutput{ETag: etag(f.UpdatedDate), Body: out}, err
}

// details gathers what a function's page shows; its parts are read side by side.
func (s *Server) details(ctx context.Context, f warpket.Function) (FunctionDetails, error) {
	out := FunctionDetails{Function: toFunction(f), Name: f.Name, Status: "created", VersionList: []FunctionVersion{}, Deployments: []Deployment{}, Logs: []string{}}
	all := postgres.Page{Limit: postgres.MaxPage}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		versions, _, err := s.Store.Versions(ctx, f.ProjectID, f.ID, postgres.VersionFilter{}, all)
		if err != nil {
			return err
		}
		counts, err := s.Store.ExecutionCounts(ctx, f.ProjectID, f.ID)
		if err != nil {
			return err
		}
		for _, n := range counts[f.ID] {
			out.Executions += n
		}
		for _, v := range versions {
			out.VersionList = append(out.VersionList, countedVersion(v, counts))
		}
		if len(versions) == 0 {
			draft, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
			if err != nil {
				return err
			}
			out.Sources, err = s.sources(ctx, draft.Snapshot)
			return err
		}
		out.Version = versions[0].Number
		out.Sources, err = s.sources(ctx, versions[0].Snapshot)
		return err
	})
	g.Go(func() error {
		deployments, _, err := s.Store.Deployments(ctx, f.ProjectID, postgres.DeploymentFilter{FunctionID: f.ID}, all)
		for _, d := range deployments {
			out.Deployments = append(out.Deployments, s.toDeployment(d))
		}
		out.Status = functionStatus(deployments)
		return err
	})
	g.Go(func() error {
		latest, _, err := s.Store.Executions(ctx, f.ProjectID, postgres.ExecutionFilter{FunctionID: f.ID}, postgres.Page{Limit: 1})
		if err != nil || len(latest) == 0 {
			return err
		}
		log, err := s.logOf(ctx, f.ProjectID, latest[0].ID, false)
		lines := strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
		if len(log) > 0 {
			out.Logs = lines[max(0, len(lines)-100):]
		}
		return err
	})
	return out, g.Wait()
}

// functionStatus sums up how a function's deployments stand.
func functionStatus(deployments []warpket.Deployment) string {
	status := "created"
	for i, d := range deployments { // newest first
		switch d.Status {
		case warpket.DeploymentReady, warpket.DeploymentDegraded:
			return "deployed"
		case warpket.DeploymentPending, warpket.DeploymentBuilding, warpket.DeploymentPlacing, warpket.DeploymentPreparing:
			status = "deploying"
		case warpket.DeploymentFailed:
			if i == 0 {
				status = "failed"
			}
		case warpket.DeploymentDetached:
		}
	}
	return status
}

func (s *Server) updateFunction(ctx context.Context, in *struct {
	FunctionInput
	MatchInput
	Body UpdateFunctionRequest
},
) (*functionOutput, error) {
	return s.changeFunction(ctx, in.FunctionID, in.MatchInput, in.Body.FunctionSettings, func(f *warpket.Function) error {
		f.Name = cmp.Or(in.Body.FunctionName, f.Name)
		if in.Body.Description != nil {
			f.Description = *in.Body.Description
		}
		if in.Body.Label != nil {
			f.Label = *in.Body.Label
		}
		return nil
	})
}

func (s *Server) replaceFunction(ctx context.Context, in *struct {
	FunctionInput
	MatchInput
	Body ReplaceFunctionRequest
},
) (*functionOutput, error) {
	return s.changeFunction(ctx, in.FunctionID, in.MatchInput, in.Body.FunctionSettings, func(f *warpket.Function) error {
		f.Name, f.Description, f.Label = in.Body.FunctionName, in.Body.Description, in.Body.Label
		f.Settings = s.defaultSettings(*f)
		return nil
	})
}

// defaultSettings are what a function has that nothing was set on.
func (s *Server) defaultSettings(f warpket.Function) warpket.Settings {
	out := warpket.NewSettings(f.Settings.Entry) // without a template, the one that it has
	if f.Image != nil {
		return out
	}
	if template, err := s.Catalog.Template(f.TemplateTag); err == nil {
		out.Entry = template.Entry
	}
	return out
}

// changeFunction has change alter a function, then applies settings to it.
func (s *Server) changeFunction(ctx context.Context, id string, match MatchInput, settings FunctionSettings, change func(*warpket.Function) error) (*functionOutput, error) {
	parsed, err := warpket.ParseID("function", id)
	if err != nil {
		return nil, err
	}
	if name := settings.Credentials; name != nil && *name != "" {
		if err := mayBind(ctx, "credentials"); err != nil {
			return nil, err
		}
		if err := s.hasSecret(ctx, projectOf(ctx), *name); err != nil {
			return nil, err
		}
	}
	defer s.targets.drop()
	f, err := s.Store.UpdateFunction(ctx, projectOf(ctx), parsed, s.Now(), func(f *warpket.Function) error {
		if err := match.check("function", f.UpdatedDate); err != nil {
			return err
		}
		if err := change(f); err != nil {
			return err
		}
		if err := errors.Join(warpket.CheckName("function", f.Name), warpket.CheckLabel(f.Label), warpket.CheckDescription(f.Description)); err != nil {
			return err
		}
		settings.set(&f.Settings)
		return f.CheckSettings()
	})
	return &functionOutput{ETag: etag(f.UpdatedDate), Body: toFunction(f)}, err
}

type deletedFunctionOutput struct{ Body DeletedFunction }

func (s *Server) deleteFunction(ctx context.Context, in *struct {
	FunctionInput
	Force bool `query:"force" doc:"Cancel what is queued or running"`
},
) (*deletedFunctionOutput, error) {
	id, err := warpket.ParseID("function", in.FunctionID)
	if err != nil {
		return nil, err
	}
	defer s.webhooks.drop()
	defer s.aliases.drop()
	defer s.targets.drop()
	left, err := s.Store.DeleteFunction(ctx, projectOf(ctx), id, in.Force)
	if err != nil {
		return nil, err
	}
	go s.Fleet.ReleaseAll(context.WithoutCancel(ctx), projectOf(ctx), left)
	out := &deletedFunctionOutput{}
	out.Body.FunctionID = string(id)
	return out, nil
}

// newFile is a file of a snapshot in the making. Without content its bytes are
// in the object store already.
type newFile struct {
	warpket.File
	content []byte
	stored  bool
}

// snapshot stores files and makes a version of them, which is not in the
// database yet.
func (s *Server) snapshot(ctx context.Context, f warpket.Function, runtime warpket.Runtime, description string, sources []newFile) (warpket.Version, error) {
	files := make([]warpket.File, len(sources))
	for i := range sources {
		if n := &sources[i]; !n.stored {
			n.Size, n.SHA256 = int64(len(n.content)), warpket.SHA256(n.content)
		}
		files[i] = sources[i].File
	}
	if err := warpket.CheckFiles(files); err != nil {
		return warpket.Version{}, err
	}
	if err := s.store(ctx, f.ProjectID, sources); err != nil {
		return warpket.Version{}, err
	}
	now := s.Now()
	return warpket.Version{
		ID: s.newID(ctx), ProjectID: f.ProjectID, FunctionID: f.ID, Description: description, CreatedDate: now,
		Snapshot: warpket.Snapshot{
			ID: warpket.NewID(now), ProjectID: f.ProjectID, FunctionID: f.ID, RuntimeID: runtime.ID, Entry: f.Settings.Entry,
			Digest: warpket.SnapshotDigest(files, f.Settings.Entry, runtime.String()), Files: files, CreatedDate: now,
		},
	}, nil
}

// store puts the bytes of files into the object store, several at a time.
func (s *Server) store(ctx context.Context, project warpket.ID, files []newFile) error {
	var objects []postgres.Object
	for _, f := range files {
		objects = append(objects, postgres.Object{ProjectID: project, SHA256: f.SHA256, Size: f.Size})
	}
	if err := s.Store.TouchObjects(ctx, objects, s.Now()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, f := range files {
		if !f.stored {
			g.Go(func() error {
				_, err := s.Blobs.Put(ctx, project, f.content)
				return err
			})
		}
	}
	return g.Wait()
}

// sources reads the files of a snapshot.
func (s *Server) sources(ctx context.Context, n warpket.Snapshot) ([]Source, error) {
	out := make([]Source, len(n.Files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, f := range n.Files {
		g.Go(func() error {
			b, err := s.Blobs.Get(ctx, n.ProjectID, f.SHA256)
			out[i] = Source{Filename: f.Path, Language: f.Language, FileID: string(f.ID)}
			if utf8.Valid(b) {
				out[i].Content = string(b)
			} else {
				out[i].ContentBase64 = base64.StdEncoding.EncodeToString(b)
			}
			return err
		})
	}
	return out, g.Wait()
}

// objectKey is where a file's bytes are in the object store.
func objectKey(project warpket.ID, f warpket.File) string { return blob.Key(project, f.SHA256) }
