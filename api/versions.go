package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// FunctionVersion is an immutable version of a function.
type FunctionVersion struct {
	ID           string         `json:"id" doc:"ID of the version"`
	Version      int            `json:"version" doc:"Its number, from 1; never reused" example:"1"`
	InDeployed   bool           `json:"inDeployed" doc:"Whether a deployment holds it"`
	CreatedDate  time.Time      `json:"createdDate" doc:"When it was published"`
	Description  string         `json:"description" doc:"What is new in it"`
	Entry        string         `json:"entry" doc:"module.function that an execution of it calls; empty for an image" example:"handler.handler"`
	Digest       string         `json:"digest" doc:"SHA-256 over all that decides a result: files, entry and runtime, or image and command"`
	RuntimeID    string         `json:"runtimeId" doc:"ID of the build that it runs on, which is listed with the runtimes"`
	Requirements string         `json:"requirements,omitempty" doc:"Digest of the packages that its requirements.txt names; absent without any"`
	Image        string         `json:"image,omitempty" doc:"Reference of its image, or of the one that its files run in, as it was given; absent for files on an SDK" example:"registry.example/bell:1"`
	ImageDigest  string         `json:"imageDigest,omitempty" doc:"Digest that the reference stood for when it was published, and that runs whatever it stands for now"`
	Command      []string       `json:"command,omitempty" nullable:"false" doc:"Program and arguments that run in the image; absent for the image's own"`
	Files        []VersionFile  `json:"files" nullable:"false" doc:"Its files"`
	UpdatedDate  time.Time      `json:"updatedDate" doc:"When its description last changed"`
	Executions   int64          `json:"executions" doc:"How many executions it has had, also those that are listed no longer"`
	Source       *VersionSource `json:"source,omitempty" doc:"Where its files came from; absent for files that were given one by one, and for an image"`
}

// VersionFile is a file in the object store.
type VersionFile struct {
	ID        string `json:"id" doc:"ID of the file"`
	VersionID string `json:"versionId" doc:"ID of its version"`
	Filename  string `json:"filename" doc:"Path from the function's folder" example:"handler.py"`
	Key       string `json:"key" doc:"Its key in the object store: {project}/{SHA-256 of its bytes}"`
	Size      int64  `json:"size" doc:"Bytes"`
	Status    string `json:"status" enum:"pending,stored,missing" doc:"Whether the object store has it"`
}

func toVersion(v warpket.Version) FunctionVersion {
	out := FunctionVersion{
		ID: string(v.ID), Version: v.Number, InDeployed: v.Deployed, CreatedDate: v.CreatedDate, Description: v.Description, UpdatedDate: v.UpdatedDate,
		Source: toVersionSource(v.Snapshot.Source), Entry: v.Snapshot.Entry, Digest: v.Snapshot.Digest, RuntimeID: string(v.Snapshot.RuntimeID), Requirements: v.Snapshot.Requirements, Files: make([]VersionFile, len(v.Snapshot.Files)),
	}
	if image := v.Snapshot.Image; image != nil {
		out.Image, out.ImageDigest, out.Command = image.Reference, image.Digest(), image.Command
	}
	for i, f := range v.Snapshot.Files {
		// A version is written only after its files are stored.
		out.Files[i] = VersionFile{ID: string(f.ID), VersionID: string(v.ID), Filename: f.Path, Key: objectKey(v.ProjectID, f), Size: f.Size, Status: "stored"}
	}
	return out
}

// versionBody is the largest body of a new version: its files in base64, with
// room for what is around them.
const versionBody = warpket.MaxVersionSize*4/3 + 4<<20

type createVersionInput struct {
	FunctionInput
	Body CreateVersionRequest
}

// CreateVersionRequest asks for a new version.
type CreateVersionRequest struct {
	FunctionID    string       `json:"functionId,omitempty" maxLength:"64" doc:"The same as in the path"`
	Description   string       `json:"description,omitempty" maxLength:"4096" doc:"What is new in it"`
	TemplateFiles []SourceFile `json:"templateFiles,omitempty" nullable:"false" maxItems:"1000" doc:"All its files: what is not listed is not carried over. Needed unless they come from elsewhere, or the function as an image"`
	ImageSource
	CodeSource
}

// UpdateVersionRequest changes what it sets.
type UpdateVersionRequest struct {
	Description *string `json:"description,omitempty" maxLength:"4096" doc:"What is new in it" example:"Two qubits more"`
}

// SourceFile is a file of a new version.
type SourceFile struct {
	Filename      string  `json:"filename" maxLength:"1024" doc:"Path from the function's folder, relative, with / between folders" example:"handler.py"`
	Language      string  `json:"language,omitempty" maxLength:"64" doc:"Language of the file; guessed from its name unless set" example:"python"`
	Content       *string `json:"content,omitempty" doc:"The text; at most 1 MiB. It wins over fileId"`
	ContentBase64 *string `json:"contentBase64,omitempty" doc:"The bytes, for a file that is not text"`
	FileID        string  `json:"fileId,omitempty" maxLength:"64" doc:"A file of this function whose bytes are taken over"`
}

// CreatedVersion answers the publishing of a version.
type CreatedVersion struct {
	Timestamp time.Time       `json:"timestamp" doc:"When it was answered"`
	Route     string          `json:"route" doc:"The path that was asked"`
	Data      FunctionVersion `json:"data" doc:"The version"`
}

type (
	createdVersionOutput struct{ Body CreatedVersion }
	versionOutput        struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body FunctionVersion
	}
	// VersionInput names a version in a path. It is exported for huma, which
	// reads no other embedded fields.
	VersionInput struct {
		FunctionInput
		Version int `path:"version" minimum:"1" maximum:"2147483647" doc:"Number of the version" example:"1"`
	}
)

func (s *Server) addVersions() {
	tags := []string{"Functions"}
	register(s, Write, huma.Operation{
		OperationID: "create-version", Parameters: idempotencyKey(), Method: http.MethodPost, Path: "/v1/functions/{functionId}/versions", Tags: tags, Summary: "Publish a version", DefaultStatus: http.StatusOK,
		Description:  "The files, or the image, are immutable from then on: a tag of an image is looked up once, now. A file is at most 1 MiB, a version 50 MiB. Packages that a requirements.txt among them names are added to its runtime: names with extras, version specifiers and markers, of wheels that the index has. Instead of files it may be given a package, an object or a commit of a Git repository; what these leave out is as in the newest version, so that {\"git\": {}} fetches anew what a branch has now." + formDoc,
		MaxBodyBytes: versionBody, BodyReadTimeout: time.Minute, RequestBody: formBody[CreateVersionRequest](s), Metadata: map[string]any{takesForm: true},
		Errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity},
	}, s.createVersion, byPath)
	register(s, Read, huma.Operation{
		OperationID: "list-versions", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions", Tags: tags, Summary: "List versions", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		FunctionInput
		PageInput
		Description string `query:"description" maxLength:"5000" doc:"Only those described so, or eq:, neq:, in:, has: and a text" example:"has:ansatz"`
		CreatedDate string `query:"createdDate" maxLength:"100" doc:"Only those created then, or gt:, gte:, lt:, lte:, eq:, neq: and a time" example:"gte:2026-01-31T12:00:00Z"`
	},
	) (*listOutput[FunctionVersion], error) {
		f, err := s.function(ctx, in.FunctionID)
		if err != nil {
			return nil, err
		}
		var filter postgres.VersionFilter
		if err := conditions(asked{&filter.Description, "description", in.Description, textOps}, asked{&filter.CreatedDate, "createdDate", in.CreatedDate, dateOps}); err != nil {
			return nil, err
		}
		items, next, err := s.Store.Versions(ctx, f.ProjectID, f.ID, filter, in.page())
		if err != nil {
			return nil, err
		}
		counts, err := s.Store.ExecutionCounts(ctx, f.ProjectID, f.ID)
		return list(items, next, func(v warpket.Version) FunctionVersion { return countedVersion(v, counts) }), err
	}, byPath)
	register(s, Read, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions/{version}", Tags: tags, Summary: "Get a version",
		Description: "Asks the object store for each file, whose status says what it answered.", Errors: []int{http.StatusNotFound},
	}, s.getVersion, byPath)
	register(s, Write, huma.Operation{
		OperationID: "update-version", Method: http.MethodPatch, Path: "/v1/functions/{functionId}/versions/{version}", Tags: tags, Summary: "Change the description of a version",
		Description: "All else of a version stays as it is.", Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}, s.updateVersion, byPath)
	register(s, Write, huma.Operation{
		OperationID: "delete-version", Method: http.MethodDelete, Path: "/v1/functions/{functionId}/versions/{version}", Tags: tags, Summary: "Delete a version", DefaultStatus: http.StatusNoContent,
		Description: "Its number is not used again. Its executions stay listed; those that are queued or running go on. Refused while a deployment that is not detached, or anything else, refers to it, and if it is all the code that the function has.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		VersionInput
		MatchInput
	},
	) (*struct{}, error) {
		id, err := warpket.ParseID("function", in.FunctionID)
		if err != nil {
			return nil, err
		}
		defer s.targets.drop()
		return nil, s.Store.DeleteVersion(ctx, projectOf(ctx), id, in.Version, s.Now(), func(v warpket.Version) error { return in.check("version", v.UpdatedDate) })
	}, byPath)
	file := bytesResponse("application/octet-stream", "The file: text/plain when it is UTF-8")
	file["200"].Content["text/plain"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	register(s, Read, huma.Operation{
		OperationID: "get-version-file", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions/{version}/files/{path}", Tags: tags, Summary: "Download a file of a version",
		Description: "The path may hold slashes, written as %2F or as they are.", Errors: []int{http.StatusNotFound}, Responses: file,
	}, s.getVersionFile, byPath)
	// Slashes in the path as they are; the same operation, once more.
	s.mux.HandleFunc("GET /v1/functions/{functionId}/versions/{version}/files/{path...}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("path") == "" || strings.Contains(r.URL.RawPath, "%2F") && !strings.Contains(r.PathValue("path"), "/") {
			newProblem(http.StatusNotFound, Code(warpket.NotFound), "name a file of the version after files/").write(w)
			return
		}
		r.URL.Path = fmt.Sprintf("/v1/functions/%s/versions/%s/files/%s", r.PathValue("functionId"), r.PathValue("version"), strings.ReplaceAll(r.PathValue("path"), "/", "%2F"))
		r.URL.RawPath = r.URL.Path
		s.mux.ServeHTTP(w, r)
	})
	register(s, Read, huma.Operation{
		OperationID: "get-version-lock", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions/{version}/lock", Tags: tags, Summary: "Get the lock of a version",
		Description: "The exact packages of its runtime with their hashes, as a requirements file. It is made when the version is first deployed or executed.",
		Errors:      []int{http.StatusNotFound}, Responses: bytesResponse("text/plain", "The lock"),
	}, s.getVersionLock, byPath)
	register(s, Read, huma.Operation{
		OperationID: "get-version-archive", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions/{version}/archive", Tags: tags, Summary: "Download a version as a zip",
		Errors: []int{http.StatusNotFound}, Responses: bytesResponse("application/zip", "The files"),
	}, s.getVersionArchive, byPath)
	register(s, Read, huma.Operation{
		OperationID: "get-draft-archive", Method: http.MethodGet, Path: "/v1/functions/{functionId}/draft/archive", Tags: tags, Summary: "Download the draft as a zip",
		Errors: []int{http.StatusNotFound}, Responses: bytesResponse("application/zip", "The files"),
	}, s.getDraftArchive, byPath)
}

func bytesResponse(contentType, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
}

// function gives a function of the caller's project.
func (s *Server) function(ctx context.Context, id string) (warpket.Function, error) {
	parsed, err := warpket.ParseID("function", id)
	if err != nil {
		return warpket.Function{}, err
	}
	return s.Store.Function(ctx, projectOf(ctx), parsed)
}

func (s *Server) createVersion(ctx context.Context, in *createVersionInput) (*createdVersionOutput, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	if b := in.Body.FunctionID; b != "" && !strings.EqualFold(b, in.FunctionID) {
		return nil, warpket.Errorf(warpket.Invalid, "functionId in the body is not the one in the path").At("functionId")
	}
	if err := warpket.CheckDescription(in.Body.Description); err != nil {
		return nil, err
	}
	v, err := s.newVersion(ctx, f, in.Body)
	if err != nil {
		return nil, err
	}
	defer s.targets.drop()
	if v, err = s.Store.Publish(ctx, v); err != nil {
		return nil, err
	}
	return &createdVersionOutput{CreatedVersion{Timestamp: s.Now(), Route: "/v1/functions/" + string(f.ID) + "/versions", Data: toVersion(v)}}, nil
}

// newVersion makes a version of what a request brings, which is not in the
// database yet.
func (s *Server) newVersion(ctx context.Context, f warpket.Function, b CreateVersionRequest) (v warpket.Version, err error) {
	if f.Image != nil {
		if field := b.files(); field != "" {
			return v, warpket.Errorf(warpket.Invalid, "this function comes as an image: give the reference of one instead of files").At("%s", field)
		}
		return s.imageVersion(ctx, f, b.Description, b.ImageSource)
	}
	if err := b.refuse(); err != nil {
		return v, err
	}
	draft, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
	if err != nil {
		return v, err
	}
	sources, from, err := s.nextFiles(ctx, f, b, draft.Snapshot.Source)
	if err != nil {
		return v, err
	}
	if f.RuntimeID != "" {
		r, err := s.Store.Runtime(ctx, f.RuntimeID)
		if err != nil {
			return v, err
		}
		v, err = s.versionOn(ctx, f, r, b.Description, sources)
		v.Snapshot.Source = from
		return v, err
	}
	if err != nil {
		return v, err
	}
	runtime, err := s.Store.Runtime(ctx, draft.Snapshot.RuntimeID)
	if err != nil {
		return v, err
	}
	if runtime, err = s.runtimeRequired(ctx, f.ProjectID, runtime, sources); err != nil {
		return v, err
	}
	v, err = s.snapshot(ctx, f, runtime, b.Description, sources)
	v.Snapshot.Source = from
	return v, err
}

// newFiles reads the files of a request; those that are taken over by their ID
// are looked up among the function's own.
func (s *Server) newFiles(ctx context.Context, f warpket.Function, files []SourceFile) ([]newFile, error) {
	var ids []warpket.ID
	for i, in := range files {
		if in.Content == nil && in.ContentBase64 == nil {
			id, err := warpket.ParseID("file", in.FileID)
			if err != nil {
				return nil, notOurFile(in, i)
			}
			ids = append(ids, id)
		}
	}
	known, err := s.Store.FilesByID(ctx, f.ProjectID, f.ID, ids)
	if err != nil {
		return nil, err
	}
	out := make([]newFile, len(files))
	for i, in := range files {
		n := newFile{File: warpket.File{ID: warpket.NewID(s.Now()), Path: in.Filename, Language: in.Language}}
		switch {
		case in.Content != nil:
			n.content = []byte(*in.Content)
		case in.ContentBase64 != nil:
			if n.content, err = base64.StdEncoding.DecodeString(*in.ContentBase64); err != nil {
				return nil, warpket.Errorf(warpket.Invalid, "contentBase64 of %q is not base64", clip(in.Filename, 80)).At("templateFiles[%d].contentBase64", i)
			}
		default:
			old, ok := known[warpket.ID(strings.ToLower(in.FileID))]
			if !ok {
				return nil, notOurFile(in, i)
			}
			n.SHA256, n.Size, n.stored = old.SHA256, old.Size, true
			if n.Language == "" {
				n.Language = old.Language
			}
			if n.Path == "" {
				n.Path = old.Path
			}
		}
		if n.Language == "" {
			n.Language = languageOf(n.Path)
		}
		out[i] = n
	}
	return out, nil
}

func notOurFile(in SourceFile, i int) error {
	if in.FileID == "" {
		return warpket.Errorf(warpket.Invalid, "the file %q has no content: give content, contentBase64 or the fileId of a file of this function", clip(in.Filename, 80)).At("templateFiles[%d].content", i)
	}
	return warpket.Errorf(warpket.Invalid, "this function has no file %q: its files are listed with its versions", clip(in.FileID, 80)).At("templateFiles[%d].fileId", i)
}

// languageOf guesses a file's language from its name.
func languageOf(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".py":
		return "python"
	case ".cu", ".cpp", ".cc", ".h", ".cuh":
		return "cpp"
	case ".json":
		return "json"
	case ".yaml", ".yml":
		return "yaml"
	case ".md":
		return "markdown"
	}
	return "text"
}

func (s *Server) version(ctx context.Context, in *VersionInput) (warpket.Version, error) {
	id, err := warpket.ParseID("function", in.FunctionID)
	if err != nil {
		return warpket.Version{}, err
	}
	return s.Store.Version(ctx, projectOf(ctx), id, in.Version)
}

func (s *Server) getVersion(ctx context.Context, in *VersionInput) (*versionOutput, error) {
	v, err := s.version(ctx, in)
	if err != nil {
		return nil, err
	}
	out, err := s.versionAnswer(ctx, v)
	if err != nil {
		return nil, err
	}
	for i, f := range v.Snapshot.Files {
		stored, _, err := s.Blobs.Has(ctx, v.ProjectID, f.SHA256)
		if err != nil {
			return nil, err
		}
		if !stored {
			out.Body.Files[i].Status = "missing"
		}
	}
	return out, nil
}

// versionAnswer is a version with its count.
func (s *Server) versionAnswer(ctx context.Context, v warpket.Version) (*versionOutput, error) {
	counts, err := s.Store.ExecutionCounts(ctx, v.ProjectID, v.FunctionID)
	return &versionOutput{ETag: etag(v.UpdatedDate), Body: countedVersion(v, counts)}, err
}

// countedVersion is a version with its count.
func countedVersion(v warpket.Version, counts map[warpket.ID]map[int]int64) FunctionVersion {
	out := toVersion(v)
	out.Executions = counts[v.FunctionID][v.Number]
	return out
}

func (s *Server) updateVersion(ctx context.Context, in *struct {
	VersionInput
	MatchInput
	Body UpdateVersionRequest
},
) (*versionOutput, error) {
	id, err := warpket.ParseID("function", in.FunctionID)
	if err != nil {
		return nil, err
	}
	v, err := s.Store.UpdateVersion(ctx, projectOf(ctx), id, in.Version, s.Now(), func(v *warpket.Version) error {
		if err := in.check("version", v.UpdatedDate); err != nil {
			return err
		}
		if in.Body.Description != nil {
			v.Description = *in.Body.Description
		}
		return warpket.CheckDescription(v.Description)
	})
	if err != nil {
		return nil, err
	}
	return s.versionAnswer(ctx, v)
}

type fileOutput struct {
	ContentType        string `header:"Content-Type"`
	ContentDisposition string `header:"Content-Disposition"`
	Body               []byte
}

func (s *Server) getVersionFile(ctx context.Context, in *struct {
	VersionInput
	Path string `path:"path" maxLength:"1024" doc:"Path of the file" example:"handler.py"`
},
) (*fileOutput, error) {
	v, err := s.version(ctx, &in.VersionInput)
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(in.Path, "%2F", "/")
	for _, f := range v.Snapshot.Files {
		if f.Path == name {
			b, err := s.Blobs.Get(ctx, v.ProjectID, f.SHA256)
			out := &fileOutput{ContentType: "application/octet-stream", Body: b, ContentDisposition: attachment(path.Base(f.Path))}
			if utf8.Valid(b) {
				out.ContentType = "text/plain; charset=utf-8"
			}
			return out, err
		}
	}
	return nil, warpket.Errorf(warpket.NotFound, "version %d has no file %q", v.Number, clip(name, 80))
}

// attachment names a download; quotes and the like cannot break the header.
func attachment(name string) string {
	return fmt.Sprintf("attachment; filename*=UTF-8''%s", percent(name))
}

func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func (s *Server) getVersionLock(ctx context.Context, in *VersionInput) (*fileOutput, error) {
	v, err := s.version(ctx, in)
	if err != nil {
		return nil, err
	}
	if image := v.Snapshot.Image; image != nil {
		return nil, warpket.Errorf(warpket.NotFound, "version %d has no lock, for it comes as an image: %s", v.Number, image.Pinned)
	}
	r, err := s.Store.ProjectRuntime(ctx, v.ProjectID, v.Snapshot.RuntimeID)
	if err != nil {
		return nil, err
	}
	if r.Lock == "" && r.Status != warpket.RuntimeAvailable {
		return nil, warpket.Errorf(warpket.NotFound, "version %d is not locked yet: deploy or execute it", v.Number)
	}
	return &fileOutput{ContentType: "text/plain; charset=utf-8", ContentDisposition: attachment("requirements.lock"), Body: []byte(r.Lock)}, nil
}

func (s *Server) getVersionArchive(ctx context.Context, in *VersionInput) (*huma.StreamResponse, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	v, err := s.version(ctx, in)
	if err != nil {
		return nil, err
	}
	return s.archive(ctx, fmt.Sprintf("%s-v%d.zip", f.Name, v.Number), v.Snapshot)
}

func (s *Server) getDraftArchive(ctx context.Context, in *FunctionInput) (*huma.StreamResponse, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	d, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
	if err != nil {
		return nil, err
	}
	return s.archive(ctx, f.Name+"-draft.zip", d.Snapshot)
}

// archive answers with the files of a snapshot, packed while they are sent.
func (s *Server) archive(ctx context.Context, name string, n warpket.Snapshot) (*huma.StreamResponse, error) {
	if n.Image != nil {
		return nil, warpket.Errorf(warpket.NotFound, "there is no archive, for this is an image: pull %s", n.Image.Pinned)
	}
	packed := stream("application/zip", func(w io.Writer) error {
		err := s.Blobs.Zip(ctx, w, n.ProjectID, n.Files, n.CreatedDate)
		if err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "archive broken off", "snapshot", n.ID, "error", err)
		}
		return err
	})
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Disposition", attachment(name))
		packed.Body(ctx)
	}}, nil
}
