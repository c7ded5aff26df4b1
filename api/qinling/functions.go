package qinling

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/sources"
	"github.com/warpket/warpket/storage/postgres"
)

type functionObject struct {
	ID            string  `json:"id"`
	Name          *string `json:"name"`
	Description   *string `json:"description"`
	Count         int64   `json:"count" doc:"How many executions its draft, version 0, has had"`
	Code          any     `json:"code" doc:"Where its code comes from: an object, and in lists that object as text"`
	RuntimeID     *string `json:"runtime_id"`
	Entry         *string `json:"entry"`
	CPU           int     `json:"cpu" doc:"Thousandths of a core"`
	MemorySize    int64   `json:"memory_size" doc:"Bytes"`
	Timeout       int     `json:"timeout" doc:"Seconds"`
	LatestVersion int     `json:"latest_version"`
	ProjectID     string  `json:"project_id"`
	CreatedAt     string  `json:"created_at"`
	UpdatedAt     *string `json:"updated_at"`
}

// code says where the code of a function comes from.
type code struct {
	Source string `json:"source"`
	MD5    string `json:"md5sum,omitempty"`
	Swift  *swift `json:"swift,omitempty"`
	Image  string `json:"image,omitempty"`
}

type swift struct {
	Container string `json:"container,omitempty"`
	Object    string `json:"object,omitempty"`
}

func codeOf(n warpket.Snapshot) code {
	switch s := n.Source; {
	case n.Image != nil && len(n.Files) == 0 && s == nil:
		return code{Source: imageSource, Image: n.Image.Reference}
	case s != nil && s.Kind == warpket.SourceObject:
		return code{Source: swiftSource, Swift: &swift{s.Bucket, s.Key}, MD5: s.MD5}
	case s != nil:
		return code{Source: packageSource, MD5: s.MD5}
	}
	return code{Source: packageSource}
}

func toFunction(f warpket.Function, d warpket.Draft, counts map[warpket.ID]map[int]int64) functionObject {
	r := f.Settings.Resources
	return functionObject{
		ID: string(f.ID), Name: orNull(f.Label), Description: orNull(f.Description), Count: counts[f.ID][warpket.DraftNumber], Code: codeOf(d.Snapshot), RuntimeID: orNull(f.RuntimeID),
		Entry: orNull(f.Settings.Entry), CPU: r.CPU, MemorySize: r.Memory, Timeout: int(r.Timeout / time.Second), LatestVersion: d.Newest, ProjectID: string(f.ProjectID),
		CreatedAt: timestamp(f.CreatedDate), UpdatedAt: updated(f.CreatedDate, f.UpdatedDate),
	}
}

// shown are functions of one project as they are answered.
func (w *wire) shown(ctx context.Context, functions ...warpket.Function) ([]functionObject, error) {
	out := make([]functionObject, 0, len(functions))
	if len(functions) == 0 {
		return out, nil
	}
	ids := make([]warpket.ID, len(functions))
	for i, f := range functions {
		ids[i] = f.ID
	}
	project := functions[0].ProjectID
	drafts, err := w.server.Store.Drafts(ctx, project, ids...)
	if err != nil {
		return nil, err
	}
	counts, err := w.server.Store.ExecutionCounts(ctx, project, ids...)
	if err != nil {
		return nil, err
	}
	for _, f := range functions {
		shown := toFunction(f, drafts[f.ID], counts)
		if f.Label == "" { // made natively
			shown.Name = &f.Name
		}
		out = append(out, shown)
	}
	return out, nil
}

func (w *wire) functionAnswer(ctx context.Context, project, id warpket.ID) (*output[functionObject], error) {
	f, err := w.server.Store.Function(ctx, project, id)
	if err != nil {
		return nil, err
	}
	shown, err := w.shown(ctx, f)
	if err != nil {
		return nil, err
	}
	return &output[functionObject]{shown[0]}, nil
}

// formBody is how a function comes: a form with the zip, or JSON.
func formBody(description string) *huma.RequestBody {
	texts := map[string]*huma.Schema{}
	for _, name := range []string{"name", "description", "runtime_id", "code", "entry", "cpu", "memory_size", "timeout"} {
		texts[name] = &huma.Schema{Type: huma.TypeString}
	}
	form := map[string]*huma.Schema{"package": {Type: huma.TypeString, Format: "binary"}}
	maps.Copy(form, texts)
	return &huma.RequestBody{Description: description, Content: map[string]*huma.MediaType{
		"multipart/form-data":               {Schema: &huma.Schema{Type: huma.TypeObject, Properties: form}},
		"application/x-www-form-urlencoded": {Schema: &huma.Schema{Type: huma.TypeObject, Properties: texts}},
		"application/json":                  {Schema: &huma.Schema{}},
	}}
}

func (w *wire) addFunctions() {
	type functions struct {
		Functions []functionObject `json:"functions"`
	}
	tags := []string{"Functions"}
	register(w, api.Read, huma.Operation{OperationID: "list-functions", Method: http.MethodGet, Path: "/v1/functions", Tags: tags, Summary: "List functions", Metadata: ofProjects()},
		func(ctx context.Context, in *struct{ Query }) (*output[functions], error) {
			projects, err := w.projects(ctx, &in.Query)
			if err != nil {
				return nil, err
			}
			found, err := list(ctx, projects, func(f functionObject) warpket.ID { return warpket.ID(f.ID) }, always, func(ctx context.Context, project warpket.ID, page postgres.Page) ([]functionObject, string, error) {
				items, next, err := w.server.Store.Functions(ctx, project, postgres.FunctionFilter{}, page)
				if err != nil {
					return nil, "", err
				}
				shown, err := w.shown(ctx, items...)
				return shown, next, err
			})
			out := functions{Functions: []functionObject{}}
			for _, f := range found {
				text, _ := json.Marshal(f.Code) // texts only: cannot fail
				f.Code = string(text)
				out.Functions = append(out.Functions, f)
			}
			return &output[functions]{out}, err
		})
	register(w, api.Write, huma.Operation{
		OperationID: "create-function", Method: http.MethodPost, Path: "/v1/functions", Tags: tags, Summary: "Create a function", DefaultStatus: http.StatusCreated,
		MaxBodyBytes: packageBody, BodyReadTimeout: time.Minute, RequestBody: formBody("A form, with the zip as the file \"package\", or JSON"),
	}, w.createFunction)
	register(w, api.Read, huma.Operation{OperationID: "get-function", Method: http.MethodGet, Path: "/v1/functions/{id}", Tags: tags, Summary: "Show or download a function", Metadata: takes("download")},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*huma.StreamResponse, error) {
			f, ctx, err := w.function(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			download, err := in.flag("download")
			if err != nil {
				return nil, err
			}
			if !download {
				out, err := w.functionAnswer(ctx, f.ProjectID, f.ID)
				if err != nil {
					return nil, err
				}
				return asJSON(out.Body)
			}
			d, err := w.server.Store.Draft(ctx, f.ProjectID, f.ID)
			if err != nil {
				return nil, err
			}
			return w.archive(ctx, string(f.ID), d.Snapshot)
		})
	register(w, api.Write, huma.Operation{
		OperationID: "update-function", Method: http.MethodPut, Path: "/v1/functions/{id}", Tags: tags, Summary: "Update a function",
		MaxBodyBytes: packageBody, BodyReadTimeout: time.Minute, RequestBody: formBody("A form, with another zip as the file \"package\", or JSON"),
	}, w.updateFunction)
	register(w, api.Write, huma.Operation{OperationID: "delete-function", Method: http.MethodDelete, Path: "/v1/functions/{id}", Tags: tags, Summary: "Delete a function"}, w.deleteFunction)
}

// archive answers with the files of a snapshot as a zip.
func (w *wire) archive(ctx context.Context, name string, n warpket.Snapshot) (*huma.StreamResponse, error) {
	if codeOf(n).Source == imageSource {
		return nil, newFault(http.StatusMethodNotAllowed, "Can not download image type function.")
	}
	return stream("application/zip", map[string]string{"Content-Disposition": `attachment; filename="` + name + `"`}, func(out huma.Context) error {
		return w.server.Archive(ctx, out.BodyWriter(), n)
	}), nil
}

// function finds a function, and has an operator work in its project.
func (w *wire) function(ctx context.Context, text string) (f warpket.Function, _ context.Context, err error) {
	id, err := warpket.ParseID("function", text)
	if err != nil {
		return f, ctx, newFault(http.StatusNotFound, "Function not found [id="+clip(text)+"]")
	}
	caller := api.CallerOf(ctx)
	if caller.Role == warpket.Operator {
		if f, err = w.server.Store.FunctionByID(ctx, id); err == nil {
			ctx, err = api.In(ctx, f.ProjectID)
		}
	} else {
		f, err = w.server.Store.Function(ctx, caller.Project, id)
	}
	return f, ctx, notFound(err, "Function", "id=%s", id)
}

// own finds a function of the caller's own project, also for an operator.
func (w *wire) own(ctx context.Context, text string) (warpket.Function, error) {
	id, err := warpket.ParseID("function", text)
	if err != nil {
		return warpket.Function{}, newFault(http.StatusNotFound, "Function not found [id="+clip(text)+"]")
	}
	f, err := w.server.Store.Function(ctx, api.CallerOf(ctx).Project, id)
	return f, notFound(err, "Function", "id=%s", id)
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 80)], "") }

// settings reads the limits of a function, as far as they are said.
func (f fields) settings() (s api.FunctionSettings, err error) {
	r := api.Resources{}
	for _, limit := range []struct {
		names    []string
		what     string
		min, max int
		unit     string
		set      func(int)
	}{
		{[]string{"cpu"}, "cpu", minCPU, maxCPU, "(millicpu)", func(n int) { r.CPU = n }},
		{[]string{"memory_size", "memory"}, "memory", minMemory, maxMemory, "(bytes)", func(n int) { r.Memory = int64(n) }},
		{[]string{"timeout"}, "timeout", minTimeout, maxTimeout, "(seconds)", func(n int) { r.Timeout = float64(n) }},
	} {
		for _, name := range limit.names {
			n, ok, err := f.integer(name, "Invalid "+limit.what+" resource specified. An integer is required.")
			if err != nil {
				return s, err
			}
			if !ok {
				continue
			}
			if n < limit.min || n > limit.max {
				return s, invalid("%s resource limitation not within the allowable range: %d ~ %d%s.", limit.what, limit.min, limit.max, limit.unit)
			}
			limit.set(n)
			break
		}
	}
	s.Resources = &r
	return s, nil
}

// code reads what a body says of its code; it is an object, or one as text.
func (f fields) code() (c code, err error) {
	b, ok := []byte(nil), false
	switch v := f.values["code"].(type) {
	case string:
		b, ok = []byte(v), true
	case map[string]any:
		b, err = json.Marshal(v)
		ok = err == nil
	}
	if !ok || json.Unmarshal(b, &c) != nil {
		return c, invalid(`Invalid code specified: it is a JSON object such as {"source": "package"}.`)
	}
	if !contains([]string{packageSource, swiftSource, imageSource}, c.Source) {
		return c, invalid("Invalid code source specified, available sources: %s, %s, %s", packageSource, swiftSource, imageSource)
	}
	return c, nil
}

// zip is the package of a body, checked against its MD5, if that is told.
func (f fields) zip(md5 string) (*api.PackageSource, error) {
	switch {
	case f.file == nil:
		return nil, invalid("Package file is required.")
	case len(f.file) > maxPackage:
		return nil, newFault(http.StatusRequestEntityTooLarge, "Package file is too large.")
	case !bytes.HasPrefix(f.file, []byte("PK")):
		return nil, invalid("Package is not a valid ZIP package.")
	case md5 != "" && !strings.EqualFold(md5, sources.SumsOf(f.file).MD5):
		return nil, invalid("Package md5 mismatch.")
	}
	return &api.PackageSource{Content: f.file}, nil
}

// object is where Swift's object is: a container is a bucket.
func (s *swift) object() (*api.ObjectSource, error) {
	if s == nil || s.Container == "" || s.Object == "" {
		return nil, invalid("Both container and object must be provided for swift type function.")
	}
	return &api.ObjectSource{Bucket: s.Container, Key: s.Object}, nil
}

func (w *wire) createFunction(ctx context.Context, in *Sent) (*output[functionObject], error) {
	f, err := in.either()
	if err != nil {
		return nil, err
	}
	if !f.has("code") {
		return nil, invalid("Required param is missing. Required: {'code'}")
	}
	c, err := f.code()
	if err != nil {
		return nil, err
	}
	var name, description, runtime, entry string
	if err := f.texts(map[string]*string{"name": &name, "description": &description, "runtime_id": &runtime, "entry": &entry}); err != nil {
		return nil, err
	}
	settings, err := f.settings()
	if err != nil {
		return nil, err
	}
	r := settings.Resources
	r.CPU, r.Memory, r.Timeout = cmp.Or(r.CPU, defaultCPU), cmp.Or(r.Memory, defaultMemory), cmp.Or(r.Timeout, defaultTimeout)
	// Names are free here and need not be unique: they are the label.
	b := api.CreateFunctionRequest{
		FunctionName: "q-" + strings.ReplaceAll(string(warpket.NewID(w.server.Now())), "-", ""), Label: name, Description: description, FunctionSettings: settings,
	}
	if c.Source == imageSource {
		if c.Image == "" {
			return nil, invalid("Docker image must be provided for image type function.")
		}
		b.Source, b.Image = imageSource, c.Image
	} else {
		if b.RuntimeID, err = w.usable(ctx, runtime); err != nil {
			return nil, err
		}
		b.Entry = cmp.Or(entry, defaultEntry)
	}
	switch c.Source {
	case packageSource:
		b.Package, err = f.zip(c.MD5)
	case swiftSource:
		b.Object, err = c.Swift.object()
	}
	if err != nil {
		return nil, err
	}
	made, err := w.server.AddDraft(ctx, b)
	if err != nil {
		return nil, err
	}
	return w.functionAnswer(ctx, made.ProjectID, made.ID)
}

// usable is the ID of a runtime that the caller's functions may have.
func (w *wire) usable(ctx context.Context, text string) (string, error) {
	if text == "" {
		return "", invalid(`"runtime_id" must be specified.`)
	}
	id, err := warpket.ParseID("runtime", text)
	var r warpket.Runtime
	if err == nil {
		r, err = w.server.Store.ProjectRuntime(ctx, api.CallerOf(ctx).Project, id)
	}
	if err == nil && !r.Created() || warpket.KindOf(err) == warpket.Invalid {
		err = warpket.Errorf(warpket.NotFound, "no such runtime")
	}
	return string(r.ID), notFound(err, "Runtime", "id=%s", clip(text))
}

func (w *wire) updateFunction(ctx context.Context, in *struct {
	ByID
	Sent
},
) (*output[functionObject], error) {
	f, ctx, err := w.function(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	said, err := in.either()
	if err != nil {
		return nil, err
	}
	var name, description, entry string
	if err := said.texts(map[string]*string{"name": &name, "description": &description, "entry": &entry}); err != nil {
		return nil, err
	}
	settings, err := said.settings()
	if err != nil {
		return nil, err
	}
	if err := w.noJobs(ctx, f); err != nil {
		return nil, err
	}
	settings.Entry = entry
	set := func(f *warpket.Function) error {
		if said.has("name") {
			f.Label = name
		}
		if said.has("description") {
			f.Description = description
		}
		return nil
	}
	code, err := w.newCode(ctx, f, said)
	if err != nil {
		return nil, err
	}
	if code != nil { // last, for the function may refuse the rest
		next := f
		next.Settings.Entry = cmp.Or(entry, f.Settings.Entry)
		if err := next.CheckSettings(); err != nil {
			return nil, err
		}
		err := w.server.SetDraft(ctx, next, *code, func(draft, next warpket.Snapshot) error {
			if code.Package != nil && draft.Source != nil && draft.Source.MD5 == next.Source.MD5 {
				return invalid("The function code checksum is not changed.")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := w.server.ChangeFunction(ctx, f.ID, settings, set); err != nil {
		return nil, err
	}
	return w.functionAnswer(ctx, f.ProjectID, f.ID)
}

// newCode is the code that an update brings; nil for none.
func (w *wire) newCode(ctx context.Context, f warpket.Function, said fields) (*api.CreateVersionRequest, error) {
	if said.file == nil && !said.has("code") {
		return nil, nil
	}
	draft, err := w.server.Store.Draft(ctx, f.ProjectID, f.ID)
	if err != nil {
		return nil, err
	}
	now := codeOf(draft.Snapshot)
	next := code{Source: packageSource}
	if said.has("code") {
		if next, err = said.code(); err != nil {
			return nil, err
		}
	}
	switch {
	case now.Source != next.Source:
		return nil, invalid("The function code type can not be changed.")
	case now.Source == imageSource:
		return nil, invalid("The image type function code can not be changed.")
	case now.Source == packageSource && said.file == nil:
		return nil, nil // says what is so
	}
	b := &api.CreateVersionRequest{}
	if now.Source == packageSource {
		b.Package, err = said.zip(next.MD5)
		return b, err
	}
	s := swift{}
	if next.Swift != nil {
		s = *next.Swift
	}
	s.Container, s.Object = cmp.Or(s.Container, now.Swift.Container), cmp.Or(s.Object, now.Swift.Object)
	b.Object, err = s.object()
	return b, err
}

// noJobs refuses what is not done to a function with jobs that run.
func (w *wire) noJobs(ctx context.Context, f warpket.Function) error {
	for _, status := range []warpket.ScheduleStatus{warpket.ScheduleRunning, warpket.SchedulePaused} {
		jobs, _, err := w.server.Store.Schedules(ctx, f.ProjectID, postgres.ScheduleFilter{FunctionID: f.ID, Status: status}, postgres.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(jobs) > 0 {
			return forbidden("The function is still associated with running job(s).")
		}
	}
	return nil
}

func (w *wire) deleteFunction(ctx context.Context, in *struct {
	Query
	ByID
},
) (*struct{}, error) {
	f, of, err := w.function(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if f.ProjectID != api.CallerOf(ctx).Project {
		return nil, forbidden("Function can only be deleted by its owner.")
	}
	ctx = of
	if err := w.noJobs(ctx, f); err != nil {
		return nil, err
	}
	webhooks, _, err := w.server.Store.Webhooks(ctx, f.ProjectID, postgres.WebhookFilter{FunctionID: f.ID}, postgres.Page{Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(webhooks) > 0 {
		return nil, forbidden("The function is still associated with webhook(s).")
	}
	aliases, _, err := w.server.Store.Aliases(ctx, f.ProjectID, postgres.AliasFilter{FunctionID: f.ID}, postgres.Page{Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(aliases) > 0 {
		return nil, forbidden("The function is still associated with function alias(es).")
	}
	return nil, w.server.RemoveFunction(ctx, f.ID)
}
