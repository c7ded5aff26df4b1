package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Runtime is an SDK at one version, or an image, ready to run.
type Runtime struct {
	ID           string    `json:"id" doc:"ID of the runtime"`
	Name         string    `json:"name,omitempty" doc:"Name of one that somebody has created; absent for a build" example:"lab"`
	Description  string    `json:"description,omitempty" doc:"What it is for"`
	SDK          string    `json:"sdk" doc:"Package name of the SDK; empty for one that is made of an image" example:"qiskit"`
	SDKVersion   string    `json:"sdkVersion" doc:"Its version; empty for an image" example:"0.45.3"`
	Python       string    `json:"python" doc:"Minor of the interpreter; empty for an image" example:"3.11"`
	Platform     string    `json:"platform" doc:"Operating system and architecture" example:"linux/amd64"`
	ProjectID    string    `json:"projectId,omitempty" doc:"Project that it belongs to; absent for a shared build"`
	BuildID      string    `json:"buildId,omitempty" doc:"The build that it is made of, which is a runtime, too; absent for a build and for an image"`
	Requirements []string  `json:"requirements,omitempty" nullable:"false" doc:"What a version's requirements.txt adds; absent for a shared one"`
	Image        string    `json:"image,omitempty" doc:"Reference of the image that it is made of, as it was given; absent for an SDK" example:"registry.example/python:3.12"`
	ImageDigest  string    `json:"imageDigest,omitempty" doc:"Digest that the reference stood for when it was given"`
	Command      []string  `json:"command,omitempty" nullable:"false" doc:"Program and arguments that run in the image; absent for the image's own" example:"[\"python\",\"handler.py\"]"`
	Credentials  string    `json:"credentials,omitempty" doc:"Name of the secret that the image's registry is given"`
	IsPublic     bool      `json:"isPublic" doc:"Whether all projects see it and may use it"`
	Trusted      bool      `json:"trusted" doc:"false: its functions run only on nodes that keep programs apart completely; true: on any node"`
	Revision     int       `json:"revision" doc:"1 at first; grows each time that it is made of something else" example:"1"`
	Status       string    `json:"status" enum:"pending,building,available,failed" doc:"How far it is; a failed one is built anew when it is asked for again"`
	Message      string    `json:"message" doc:"Progress, or why it failed"`
	Lock         string    `json:"lock,omitempty" doc:"Its exact packages with their hashes, as a requirements file; absent in lists, for an image, and until locked"`
	CreatedDate  time.Time `json:"createdDate" doc:"When it was created, or first asked for"`
	UpdatedDate  time.Time `json:"updatedDate" doc:"When it was last changed"`
}

func toRuntime(r warpket.Runtime) Runtime {
	out := Runtime{
		ID: string(r.ID), Name: r.Name, Description: r.Description, SDK: r.SDK, SDKVersion: r.SDKVersion, Python: r.Python, Platform: r.Platform,
		ProjectID: string(r.ProjectID), BuildID: string(r.BaseID), Requirements: r.Lines, Credentials: r.Credentials, IsPublic: r.Public || r.ProjectID == "", Trusted: r.Trusted, Revision: r.Revision,
		Status: string(r.Status), Message: r.Message, CreatedDate: r.CreatedDate, UpdatedDate: r.UpdatedDate,
	}
	if r.Image != nil {
		out.SDK, out.Image, out.ImageDigest, out.Command = "", r.Image.Reference, r.Image.Digest(), r.Image.Command
	}
	return out
}

// CreateRuntimeRequest asks for a runtime.
type CreateRuntimeRequest struct {
	Name        string `json:"name" minLength:"1" maxLength:"255" doc:"Its name, which others may have, too" example:"lab"`
	Description string `json:"description,omitempty" maxLength:"4096" doc:"What it is for"`
	SDK         string `json:"sdk,omitempty" maxLength:"64" doc:"Package name of an SDK that a template has, see GET /v1/templates. Give this or an image" example:"qiskit"`
	SDKVersion  string `json:"sdkVersion,omitempty" maxLength:"64" doc:"A release of the SDK; the default of its template unless set" example:"0.45.3"`
	Image       string `json:"image,omitempty" maxLength:"512" doc:"Reference of an OCI image, in which functions' files run. What a tag stands for is looked up now" example:"registry.example/python:3.12"`
	RuntimeImageSettings
	IsPublic bool  `json:"isPublic,omitempty" doc:"Whether all projects see it and may use it; false unless set. Operators only"`
	Trusted  *bool `json:"trusted,omitempty" doc:"true, which is the default: its functions run on any node, in the sandbox that the node has. false: only on nodes whose isolation is complete, with nothing shared and every limit enforced"`
}

// RuntimeImageSettings say how an image is got and run. It is exported for huma,
// which reads no other embedded fields.
type RuntimeImageSettings struct {
	Command     []string `json:"command,omitempty" nullable:"false" maxItems:"256" doc:"Program and arguments that run in the image for each execution, in place of its ENTRYPOINT and CMD; an empty list for those. They find the files in /code and the function's entry in WARPKET_ENTRY" example:"[\"python\",\"handler.py\"]"`
	Credentials *string  `json:"credentials,omitempty" maxLength:"64" doc:"Name of a secret of the project that the image's registry is given, with the JSON {\"username\", \"password\"} or {\"token\"} as its value; empty for none. Functions of the project that are created with the runtime get it, too. Not for a public runtime" example:"REGISTRY"`
}

// UpdateRuntimeRequest changes what it sets.
type UpdateRuntimeRequest struct {
	Name        string  `json:"name,omitempty" maxLength:"255" doc:"A new name" example:"lab"`
	Description *string `json:"description,omitempty" maxLength:"4096" doc:"What it is for"`
	SDKVersion  string  `json:"sdkVersion,omitempty" maxLength:"64" doc:"Another release of its SDK" example:"1.0.2"`
	Image       string  `json:"image,omitempty" maxLength:"512" doc:"Another image, or what the same reference stands for now" example:"registry.example/python:3.13"`
	RuntimeImageSettings
}

// RuntimePool says how many workers there are for a runtime.
type RuntimePool struct {
	Name     string       `json:"name" doc:"ID of the runtime, by which its pool goes"`
	Capacity PoolCapacity `json:"capacity" doc:"Workers that there are now"`
}

// PoolCapacity counts the workers of a runtime.
type PoolCapacity struct {
	Available int `json:"available" doc:"Those of total that serve no execution now" example:"3"`
	Total     int `json:"total" doc:"Workers in slots that serve, of functions that were created with the runtime, or of all functions that run on it if it is a build; and workers of the runtime that nodes keep ready ahead of need, which may be nobody's yet" example:"4"`
}

type (
	// RuntimeInput names a runtime in a path. It is exported for huma, which
	// reads no other embedded fields.
	RuntimeInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the runtime"`
	}
	gotRuntime struct {
		ETag string `header:"ETag" doc:"What to send as If-Match with a change"`
		Body Runtime
	}
	runtimeOutput struct {
		Status     int
		ETag       string `header:"ETag" doc:"What to send as If-Match with a change"`
		Location   string `header:"Location" doc:"Where to follow it, while it is not settled"`
		RetryAfter string `header:"Retry-After" doc:"Seconds after which it is worth asking again"`
		Body       Runtime
	}
	runtimePoolOutput struct{ Body RuntimePool }
)

func (s *Server) addRuntimes() {
	tags := []string{"Runtimes"}
	accepted := accepted[Runtime](s, "Not built yet: follow Location")
	register(s, Read, huma.Operation{
		OperationID: "list-runtimes", Method: http.MethodGet, Path: "/v1/runtimes", Tags: tags, Summary: "List runtimes",
		Description: "Those that were created, and the builds that runtimes and versions are made of: the public ones, and the project's own. name, sdk, sdkVersion and status are a value, or `op:value` with eq, neq, in or nin (`in:a,b`), and for name also has.",
	}, s.listRuntimes, wholeProject)
	register(s, Write, huma.Operation{
		OperationID: "create-runtime", Method: http.MethodPost, Path: "/v1/runtimes", Tags: tags, Summary: "Create a runtime", DefaultStatus: http.StatusOK,
		Description: "Of an SDK at one version, or of an image. It is built at once, so that the first deployment of a function with it is fast; 202 until it is available or has failed, and with `Prefer: wait=SECONDS` the answer is held. What is the same is built once, but each request makes a runtime of its own.",
		Errors:      []int{http.StatusUnprocessableEntity}, Responses: accepted,
	}, s.createRuntime, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "get-runtime", Method: http.MethodGet, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Get a runtime",
		Description: "With the lock: the exact packages that every node installs. With `Prefer: wait=SECONDS` the answer is held until it is available or has failed.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		RuntimeInput
		HeldInput
	},
	) (*gotRuntime, error) {
		out, err := s.followRuntime(ctx, in.ID, in.Prefer)
		if err != nil {
			return nil, err
		}
		return &gotRuntime{ETag: out.ETag, Body: out.Body}, nil
	}, wholeProject)
	register(s, Write, huma.Operation{
		OperationID: "update-runtime", Method: http.MethodPatch, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Change a runtime", DefaultStatus: http.StatusOK,
		Description: "Changes what is set and leaves the rest. What it is made of can be changed while it is available or has failed, and no execution of its functions is queued or running; it is then built anew, as is one that has failed whatever is changed. That holds for versions that are published later: those that exist keep what they were made with. Operators only, if it is public.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}, Responses: accepted,
	}, s.updateRuntime, wholeProject)
	register(s, Write, huma.Operation{
		OperationID: "delete-runtime", Method: http.MethodDelete, Path: "/v1/runtimes/{id}", Tags: tags, Summary: "Delete a runtime", DefaultStatus: http.StatusNoContent,
		Description: "Refused while a function has it. Operators only, if it is public.", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *RuntimeInput) (*struct{}, error) {
		id, err := warpket.ParseID("runtime", in.ID)
		if err != nil {
			return nil, err
		}
		role := callerOf(ctx).role
		return nil, s.Store.DeleteRuntime(ctx, projectOf(ctx), id, func(r warpket.Runtime) error { return r.MayBeChangedBy(role) })
	}, wholeProject)
	register(s, Read, huma.Operation{
		OperationID: "get-runtime-pool", Method: http.MethodGet, Path: "/v1/runtimes/{id}/pool", Tags: tags, Summary: "Get the pool of a runtime",
		Description: "How many workers there are for it now, on all nodes that answer. Operators see those of all projects; others their own, and those that are nobody's yet. What nodes keep ready is known to within four seconds.", Errors: []int{http.StatusNotFound},
	}, s.getRuntimePool, wholeProject)
}

func (s *Server) listRuntimes(ctx context.Context, in *struct {
	PageInput
	Name       string `query:"name" maxLength:"4000" doc:"Only those with this name" example:"has:lab"`
	SDK        string `query:"sdk" maxLength:"4000" doc:"Only those of this SDK" example:"qiskit"`
	SDKVersion string `query:"sdkVersion" maxLength:"4000" doc:"Only those of this version" example:"in:0.45.3,1.0.2"`
	Status     string `query:"status" maxLength:"200" doc:"Only those with this status" example:"available"`
	IsPublic   string `query:"isPublic" enum:"true,false" doc:"Only those that all projects see, or only the project's own"`
	Created    string `query:"created" enum:"true,false" doc:"Only those that somebody has created, or only builds"`
},
) (*listOutput[Runtime], error) {
	var filter postgres.RuntimeFilter
	equal := []warpket.Op{warpket.Eq, warpket.Neq, warpket.In, warpket.Nin}
	err := conditions(
		asked{&filter.Name, "name", in.Name, append(equal, warpket.Has)},
		asked{&filter.SDK, "sdk", in.SDK, equal},
		asked{&filter.SDKVersion, "sdkVersion", in.SDKVersion, equal},
		asked{&filter.Status, "status", in.Status, equal},
	)
	if err != nil {
		return nil, err
	}
	filter.Public, filter.Created = truth(in.IsPublic), truth(in.Created)
	items, next, err := s.Store.Runtimes(ctx, projectOf(ctx), filter, in.page())
	return list(items, next, toRuntime), err
}

// truth reads "true" or "false"; nil for neither.
func truth(text string) *bool {
	if text == "" {
		return nil
	}
	yes := text == "true"
	return &yes
}

func (s *Server) createRuntime(ctx context.Context, in *struct {
	HeldInput
	Body CreateRuntimeRequest
},
) (*runtimeOutput, error) {
	b, now := in.Body, s.Now()
	r := warpket.Runtime{ID: s.newID(ctx), ProjectID: projectOf(ctx), Name: b.Name, Description: b.Description, Public: b.IsPublic, Trusted: b.Trusted == nil || *b.Trusted, CreatedDate: now, UpdatedDate: now}
	if err := r.CheckPublic(callerOf(ctx).role); err != nil {
		return nil, err
	}
	var err error
	switch {
	case (b.SDK == "") == (b.Image == ""):
		return nil, warpket.Errorf(warpket.Invalid, "a runtime is made of an SDK or of an image: give one of sdk, see GET /v1/templates, and image").At("sdk")
	case b.Image != "" && b.SDKVersion != "":
		return nil, warpket.Errorf(warpket.Invalid, "an image brings its own SDK: leave sdkVersion out").At("sdkVersion")
	case b.Image != "":
		r.RuntimeKey, r.Image = warpket.ImageRuntime(s.Platform), &warpket.Image{}
		err = s.makeOfImage(ctx, &r, b.Image, b.RuntimeImageSettings)
	default:
		err = s.makeOfSDK(ctx, &r, b.SDK, b.SDKVersion, b.RuntimeImageSettings)
	}
	if err != nil {
		return nil, err
	}
	if r, err = s.Store.CreateRuntime(ctx, r); err != nil {
		return nil, err
	}
	s.startRuntime(ctx, r)
	return s.followRuntime(ctx, string(r.ID), in.Prefer)
}

// makeOfSDK makes a runtime of a release of an SDK; without a version, of the
// default one.
func (s *Server) makeOfSDK(ctx context.Context, r *warpket.Runtime, sdk, version string, image RuntimeImageSettings) error {
	for field, set := range map[string]bool{"command": image.Command != nil, "credentials": image.Credentials != nil} {
		if set {
			return warpket.Errorf(warpket.Invalid, "%s is for runtimes that are made of an image", field).At("%s", field)
		}
	}
	template, err := s.Catalog.OfSDK(sdk)
	if err != nil {
		return err
	}
	build, err := s.runtimeFor(ctx, template, version)
	r.BaseID = build.ID
	return err
}

// makeOfImage makes a runtime of what a reference stands for now, or of the image
// that it has if there is no reference, with these settings.
func (s *Server) makeOfImage(ctx context.Context, r *warpket.Runtime, reference string, settings RuntimeImageSettings) error {
	image := *r.Image
	if settings.Command != nil {
		image.Command = nil
		if len(settings.Command) > 0 {
			image.Command = settings.Command
		}
	}
	if settings.Credentials != nil {
		r.Credentials = *settings.Credentials
		if r.Credentials != "" {
			if err := s.hasSecret(ctx, r.ProjectID, r.Credentials); err != nil {
				return err
			}
		}
	}
	if reference != "" {
		image.Reference = reference
	}
	r.Image = &image
	if err := r.Check(); err != nil || reference == "" {
		return err
	}
	pinned, err := s.resolve(ctx, r.ProjectID, r.Credentials, reference)
	image.Pinned = pinned
	return err
}

// startRuntime has a runtime built that is not available, as was promised.
func (s *Server) startRuntime(ctx context.Context, r warpket.Runtime) {
	if r.Status.Settled() {
		return
	}
	if err := s.Workflows.StartRuntime(context.WithoutCancel(ctx), r); err != nil {
		s.Log.WarnContext(ctx, "workflow not started; the sweeper does", "runtime", r.ID, "error", err)
	}
}

// followRuntime answers with a runtime, held as long as the caller prefers
// unless it is settled before.
func (s *Server) followRuntime(ctx context.Context, text, prefer string) (*runtimeOutput, error) {
	id, err := warpket.ParseID("runtime", text)
	if err != nil {
		return nil, err
	}
	r, err := s.Store.ProjectRuntime(ctx, projectOf(ctx), id)
	if err != nil {
		return nil, err
	}
	held, cancel, asked := hold(ctx, prefer)
	defer cancel()
	if asked && !r.Status.Settled() {
		news := s.Hub.Watch(r.BuildID())
		defer news.Close()
		for held.Err() == nil {
			if r, err = s.Store.ProjectRuntime(ctx, projectOf(ctx), id); err != nil {
				return nil, err
			}
			if r.Status.Settled() {
				break
			}
			select {
			case <-news.C:
			case <-held.Done():
			}
		}
	}
	out := &runtimeOutput{Status: http.StatusOK, ETag: etag(r.UpdatedDate), Body: toRuntime(r)}
	out.Body.Lock = r.Lock
	if !r.Status.Settled() {
		out.Status, out.Location, out.RetryAfter = http.StatusAccepted, "/v1/runtimes/"+string(id), "1"
	}
	return out, nil
}

func (s *Server) updateRuntime(ctx context.Context, in *struct {
	RuntimeInput
	MatchInput
	HeldInput
	Body UpdateRuntimeRequest
},
) (*runtimeOutput, error) {
	id, err := warpket.ParseID("runtime", in.ID)
	if err != nil {
		return nil, err
	}
	b, role := in.Body, callerOf(ctx).role
	made, err := s.Store.ProjectRuntime(ctx, projectOf(ctx), id) // and what it will be
	if err != nil {
		return nil, err
	}
	if err := made.MayBeChangedBy(role); err != nil {
		return nil, err
	}
	remade := b.SDKVersion != "" || b.Image != "" || b.Command != nil || b.Credentials != nil
	switch {
	case remade && made.Image != nil && b.SDKVersion != "":
		return nil, warpket.Errorf(warpket.Invalid, "this runtime is made of an image: give another one instead of sdkVersion").At("sdkVersion")
	case remade && made.Image != nil:
		err = s.makeOfImage(ctx, &made, b.Image, b.RuntimeImageSettings)
	case b.Image != "":
		return nil, warpket.Errorf(warpket.Invalid, "this runtime is made of an SDK: give another sdkVersion instead of an image").At("image")
	case remade:
		err = s.makeOfSDK(ctx, &made, made.SDK, cmp.Or(b.SDKVersion, made.SDKVersion), b.RuntimeImageSettings)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.Store.UpdateRuntime(ctx, projectOf(ctx), id, s.Now(), func(r *warpket.Runtime) error {
		if err := in.check("runtime", r.UpdatedDate); err != nil {
			return err
		}
		r.Name = cmp.Or(b.Name, r.Name)
		if b.Description != nil {
			r.Description = *b.Description
		}
		if remade {
			if !r.UpdatedDate.Equal(made.UpdatedDate) {
				return warpket.Errorf(warpket.Conflict, "the runtime was changed by somebody else at the same time: read it again, then decide")
			}
			r.BaseID, r.Image, r.Credentials = made.BaseID, made.Image, made.Credentials
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.startRuntime(ctx, r)
	return s.followRuntime(ctx, in.ID, in.Prefer)
}

func (s *Server) getRuntimePool(ctx context.Context, in *RuntimeInput) (*runtimePoolOutput, error) {
	id, err := warpket.ParseID("runtime", in.ID)
	if err != nil {
		return nil, err
	}
	caller := callerOf(ctx)
	r, err := s.Store.ProjectRuntime(ctx, caller.project, id)
	if err != nil {
		return nil, err
	}
	whose := caller.project
	if caller.role == warpket.Operator {
		whose = ""
	}
	c, err := s.Store.RuntimeCapacity(ctx, whose, r)
	return &runtimePoolOutput{RuntimePool{Name: string(r.ID), Capacity: PoolCapacity{Available: c.Available, Total: c.Total}}}, err
}

// newOnRuntime is newFunction for files with a runtime that somebody has created.
func (s *Server) newOnRuntime(ctx context.Context, b CreateFunctionRequest) (f warpket.Function, v warpket.Version, err error) {
	id, err := warpket.ParseID("runtime", b.RuntimeID)
	if err != nil {
		return f, v, noRuntime(b.RuntimeID)
	}
	project, now := projectOf(ctx), s.Now()
	r, err := s.Store.ProjectRuntime(ctx, project, id)
	if warpket.KindOf(err) == warpket.NotFound || err == nil && !r.Created() {
		return f, v, noRuntime(b.RuntimeID)
	}
	if err != nil {
		return f, v, err
	}
	if b.SDKVersion != "" {
		return f, v, warpket.Errorf(warpket.Invalid, "a runtime has its SDK version: leave sdkVersion out").At("sdkVersion")
	}
	if b.TemplateLanguageTag != "" && b.TemplateLanguageTag != r.TemplateTag {
		return f, v, warpket.Errorf(warpket.Invalid, "runtime %s is not one of the template %.80q: leave templateLanguageTag out", r.ID, b.TemplateLanguageTag).At("templateLanguageTag")
	}
	f = warpket.Function{
		ID: s.newID(ctx), ProjectID: project, Name: b.FunctionName, Description: b.Description, TemplateTag: r.TemplateTag, RuntimeID: r.ID, InImage: r.Image != nil, Label: b.Label,
		Settings:    warpket.Settings{Lane: warpket.Durable, Reuse: warpket.ReuseProcess, Network: warpket.NoNetwork, Resources: warpket.DefaultResources},
		CreatedDate: now, UpdatedDate: now,
	}
	var template warpket.Template
	if f.InImage {
		if len(b.TemplateFiles) == 0 && len(b.given()) == 0 {
			return f, v, warpket.Errorf(warpket.Invalid, "a runtime that is made of an image has no template: give the function's files as templateFiles, or say where they are").At("templateFiles")
		}
		if r.ProjectID == project {
			f.Settings.Credentials = r.Credentials
		}
	} else {
		if template, err = s.Catalog.Template(r.TemplateTag); err != nil {
			return f, v, err
		}
		f.SDK, f.SDKVersion, f.Settings.Entry = r.SDK, r.SDKVersion, template.Entry
	}
	b.set(&f.Settings)
	if err := f.CheckSettings(); err != nil {
		return f, v, err
	}
	if name := b.Credentials; name != nil && *name != "" {
		if err := s.hasSecret(ctx, project, *name); err != nil {
			return f, v, err
		}
	}
	sources, from, err := s.firstFiles(ctx, f, template, b)
	if err != nil {
		return f, v, err
	}
	v, err = s.versionOn(ctx, f, r, "", sources)
	if err != nil {
		return f, v, err
	}
	v.Snapshot.Source = from
	return f, v, nil
}

func noRuntime(id string) error {
	return warpket.Errorf(warpket.Invalid, "there is no runtime %.80q that somebody has created: GET /v1/runtimes?created=true lists them", id).At("runtimeId")
}

// versionOn stores files and makes a version of them, on what a created runtime
// is made of now. It is not in the database yet.
func (s *Server) versionOn(ctx context.Context, f warpket.Function, r warpket.Runtime, description string, sources []newFile) (v warpket.Version, err error) {
	var build warpket.Runtime
	if r.Image != nil {
		build, err = s.Store.EnsureRuntime(ctx, warpket.Runtime{ID: warpket.NewID(s.Now()), RuntimeKey: warpket.ImageRuntime(r.Platform), CreatedDate: s.Now()})
	} else if build, err = s.Store.Runtime(ctx, r.BaseID); err == nil {
		build, err = s.runtimeRequired(ctx, f.ProjectID, build, sources)
	}
	if err != nil {
		return v, err
	}
	if v, err = s.snapshot(ctx, f, build, description, sources); err != nil {
		return v, err
	}
	v.Snapshot.Image = r.Image
	v.Snapshot.Digest = v.Snapshot.DigestFor(build.RuntimeKey)
	return v, nil
}
