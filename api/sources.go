package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/sources"
)

// CodeSource is where the files of a version come from when they are not given
// one by one. It is exported for huma, which reads no other embedded fields.
type CodeSource struct {
	Package *PackageSource `json:"package,omitempty" doc:"A zip of all its files"`
	Object  *ObjectSource  `json:"object,omitempty" doc:"A zip of all its files, or its only file, in an S3 bucket"`
	Git     *GitSource     `json:"git,omitempty" doc:"A Git repository elsewhere, of which the files of one commit are taken"`
}

// PackageSource is an uploaded zip.
type PackageSource struct {
	ContentBase64 string `json:"contentBase64" doc:"The zip; at most 50 MiB, with plain files of at most 1 MiB. In a form it is the file \"package\""`
	MD5           string `json:"md5,omitempty" pattern:"^[0-9a-fA-F]{32}$" doc:"MD5 of the zip, to be checked" example:"d41d8cd98f00b204e9800998ecf8427e"`
	SHA256        string `json:"sha256,omitempty" pattern:"^[0-9a-fA-F]{64}$" doc:"SHA-256 of the zip, to be checked"`
	Content       []byte `json:"-"` // the zip, in the place of ContentBase64, from another wire
}

// ObjectSource is an object in an object store elsewhere.
type ObjectSource struct {
	Bucket      string  `json:"bucket,omitempty" maxLength:"63" doc:"Its bucket: one that the operator lets all projects read, or any that the credentials open. The newest version's unless set" example:"functions"`
	Key         string  `json:"key,omitempty" maxLength:"1024" doc:"Its key; the newest version's unless set" example:"bell.zip"`
	Credentials *string `json:"credentials,omitempty" maxLength:"64" doc:"Name of a secret of the project whose value is the JSON {\"endpoint\", \"accessKey\", \"secretKey\", \"region\"}" example:"STORE"`
}

// GitSource is a commit of a Git repository elsewhere.
type GitSource struct {
	URL         string  `json:"url,omitempty" maxLength:"2048" doc:"URL of the repository, with https and without credentials; the newest version's unless set" example:"https://git.example/bell.git"`
	Ref         *string `json:"ref,omitempty" maxLength:"255" doc:"Branch, tag or commit; the repository's default branch unless set" example:"main"`
	Path        *string `json:"path,omitempty" maxLength:"255" doc:"Folder of the repository whose files are taken; all of it unless set" example:"functions/bell"`
	Credentials *string `json:"credentials,omitempty" maxLength:"64" doc:"Name of a secret of the project whose value is the JSON {\"username\", \"password\"} or {\"token\"}" example:"GIT"`
}

// VersionSource is where the files of a version came from.
type VersionSource struct {
	Kind        string `json:"kind" enum:"package,object,git,push" doc:"An uploaded zip, an object in a bucket, a commit of a repository elsewhere, or one that was pushed to the function's own"`
	URL         string `json:"url,omitempty" doc:"URL of the repository"`
	Ref         string `json:"ref,omitempty" doc:"What was asked for there"`
	Path        string `json:"path,omitempty" doc:"Folder of the repository"`
	Commit      string `json:"commit,omitempty" doc:"Hash of the commit that was there then"`
	Endpoint    string `json:"endpoint,omitempty" doc:"URL of the object store"`
	Bucket      string `json:"bucket,omitempty" doc:"Its bucket"`
	Key         string `json:"key,omitempty" doc:"Key of the object"`
	ETag        string `json:"etag,omitempty" doc:"ETag of the object then"`
	MD5         string `json:"md5,omitempty" doc:"MD5 of the zip or the file"`
	SHA256      string `json:"sha256,omitempty" doc:"SHA-256 of the zip or the file"`
	Credentials string `json:"credentials,omitempty" doc:"Name of the secret that was shown there"`
}

func toVersionSource(s *warpket.Source) *VersionSource {
	if s == nil {
		return nil
	}
	return &VersionSource{
		Kind: string(s.Kind), URL: s.URL, Ref: s.Ref, Path: s.Path, Commit: s.Commit, Endpoint: s.Endpoint, Bucket: s.Bucket, Key: s.Key, ETag: s.ETag,
		MD5: s.MD5, SHA256: s.SHA256, Credentials: s.Credentials,
	}
}

// sourceOf names the source of a function of files.
func sourceOf(s *warpket.Source) string {
	if s == nil || s.Kind == warpket.SourcePush {
		return filesSource
	}
	return string(s.Kind)
}

// given names the sources that a request gives.
func (c CodeSource) given() (kinds []string) {
	if c.Package != nil {
		kinds = append(kinds, string(warpket.SourcePackage))
	}
	if c.Object != nil {
		kinds = append(kinds, string(warpket.SourceObject))
	}
	if c.Git != nil {
		kinds = append(kinds, string(warpket.SourceGit))
	}
	return kinds
}

// files names the first property that gives files; empty if none does.
func (b CreateVersionRequest) files() string {
	if len(b.TemplateFiles) > 0 {
		return "templateFiles"
	}
	return cmp.Or(b.given()...)
}

// checkSource refuses a source without its property, and the other way round.
func (b CreateFunctionRequest) checkSource() error {
	given := b.given()
	switch {
	case len(given) > 1:
		return warpket.Errorf(warpket.Invalid, "give one source: %s or %s", given[0], given[1]).At("%s", given[1])
	case len(given) == 1 && b.Source != "" && b.Source != given[0]:
		return warpket.Errorf(warpket.Invalid, "the source is %s, so leave %s out, or say \"source\": %q", b.Source, given[0], given[0]).At("%s", given[0])
	case len(given) == 0 && (b.Source == string(warpket.SourcePackage) || b.Source == string(warpket.SourceObject) || b.Source == string(warpket.SourceGit)):
		return warpket.Errorf(warpket.Invalid, "the source is %s: say in %s which", b.Source, b.Source).At("%s", b.Source)
	}
	return nil
}

// firstFiles gets the files of a new function, which are its template's unless
// the request gives them or says where they are.
func (s *Server) firstFiles(ctx context.Context, f warpket.Function, t warpket.Template, b CreateFunctionRequest) ([]newFile, *warpket.Source, error) {
	switch given := b.given(); {
	case len(given) > 0 && len(b.TemplateFiles) > 0:
		return nil, nil, warpket.Errorf(warpket.Invalid, "give templateFiles, package, object or git, and one of them").At("%s", given[0])
	case len(given) > 0:
		return s.code(ctx, f.ProjectID, b.CodeSource, nil)
	case len(b.TemplateFiles) > 0:
		files, err := s.newFiles(ctx, f, b.TemplateFiles)
		return files, nil, err
	}
	files := make([]newFile, len(t.Files))
	for i, file := range t.Files {
		files[i] = newFile{File: warpket.File{ID: warpket.NewID(s.Now()), Path: file.Filename, Language: file.Language}, content: []byte(file.Content)}
	}
	return files, nil, nil
}

// nextFiles gets the files of a function's next version. What the request
// leaves out of a source is as it was before.
func (s *Server) nextFiles(ctx context.Context, f warpket.Function, b CreateVersionRequest, before *warpket.Source) ([]newFile, *warpket.Source, error) {
	given := b.given()
	if len(given) > 1 || len(given) == 1 && len(b.TemplateFiles) > 0 {
		return nil, nil, warpket.Errorf(warpket.Invalid, "give templateFiles, package, object or git, and one of them").At("%s", given[len(given)-1])
	}
	if len(given) == 1 {
		return s.code(ctx, f.ProjectID, b.CodeSource, before)
	}
	files, err := s.newFiles(ctx, f, b.TemplateFiles)
	return files, nil, err
}

// code gets files from elsewhere, and says from where.
func (s *Server) code(ctx context.Context, project warpket.ID, in CodeSource, before *warpket.Source) ([]newFile, *warpket.Source, error) {
	var got []sources.File
	var from warpket.Source
	var err error
	switch {
	case in.Package != nil:
		got, from, err = in.Package.unpack()
	case in.Object != nil:
		from = in.Object.source(before)
		if err := mayShow(ctx, from, before); err != nil {
			return nil, nil, err
		}
		if got, from, err = s.object(ctx, project, from); err != nil {
			return nil, nil, err
		}
	case in.Git != nil:
		from = in.Git.source(before)
		if err := mayShow(ctx, from, before); err != nil {
			return nil, nil, err
		}
		if got, from, err = s.commit(ctx, project, from); err != nil {
			return nil, nil, err
		}
	}
	if err != nil {
		return nil, nil, err
	}
	files := make([]newFile, len(got))
	plain := make([]warpket.File, len(got))
	for i, f := range got {
		files[i] = newFile{File: warpket.File{ID: warpket.NewID(s.Now()), Path: f.Path, Language: languageOf(f.Path)}, content: f.Content}
		plain[i] = warpket.File{Path: f.Path, Size: int64(len(f.Content))}
	}
	if err := warpket.CheckFiles(plain); err != nil {
		if e, ok := errors.AsType[*warpket.Error](err); ok {
			return nil, nil, e.At("%s", from.Kind)
		}
		return nil, nil, err
	}
	return files, &from, nil
}

// mayShow refuses credentials to those who may bind none, unless they are those
// that were shown to the same place before.
func mayShow(ctx context.Context, from warpket.Source, before *warpket.Source) error {
	same := func(b warpket.Source) bool {
		return b.Credentials == from.Credentials && b.URL == from.URL && b.Bucket == from.Bucket && b.Key == from.Key
	}
	if from.Credentials == "" || before != nil && same(*before) {
		return nil
	}
	return mayBind(ctx, string(from.Kind)+".credentials")
}

func (p PackageSource) unpack() ([]sources.File, warpket.Source, error) {
	from := warpket.Source{Kind: warpket.SourcePackage}
	b := p.Content
	if b == nil {
		var err error
		if b, err = base64.StdEncoding.DecodeString(p.ContentBase64); err != nil {
			return nil, from, warpket.Errorf(warpket.Invalid, "contentBase64 of the package is not base64").At("package.contentBase64")
		}
	}
	if len(b) > sources.MaxZip {
		return nil, from, warpket.Errorf(warpket.TooLarge, "the zip has %d bytes; at most %d (50 MiB) are allowed", len(b), sources.MaxZip).At("package")
	}
	sums := sources.SumsOf(b)
	if err := sums.Check(sources.Sums{MD5: p.MD5, SHA256: p.SHA256}); err != nil {
		return nil, from, err
	}
	from.MD5, from.SHA256 = sums.MD5, sums.SHA256
	files, err := sources.Unzip(b)
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		err = e.At("package")
	}
	return files, from, err
}

// source is the object that is meant, as it was before where nothing is said.
func (o ObjectSource) source(before *warpket.Source) warpket.Source {
	from := warpket.Source{Kind: warpket.SourceObject, Bucket: o.Bucket, Key: o.Key}
	if o.Bucket == "" && before != nil && before.Kind == from.Kind {
		from.Bucket, from.Credentials = before.Bucket, before.Credentials
		from.Key = cmp.Or(o.Key, before.Key)
	}
	if o.Credentials != nil {
		from.Credentials = *o.Credentials
	}
	return from
}

// source is the commit that is meant, as it was before where nothing is said.
func (g GitSource) source(before *warpket.Source) warpket.Source {
	from := warpket.Source{Kind: warpket.SourceGit, URL: g.URL}
	if g.URL == "" && before != nil && before.Kind == from.Kind {
		from.URL, from.Ref, from.Path, from.Credentials = before.URL, before.Ref, before.Path, before.Credentials
	}
	for field, value := range map[*string]*string{&from.Ref: g.Ref, &from.Path: g.Path, &from.Credentials: g.Credentials} {
		if value != nil {
			*field = *value
		}
	}
	return from
}

// maxFetches is how many are made at a time: each may take some hundred MiB.
const maxFetches = 4

// object fetches from an object store, with what its secret holds.
func (s *Server) object(ctx context.Context, project warpket.ID, from warpket.Source) ([]sources.File, warpket.Source, error) {
	if err := from.Check(); err != nil {
		return nil, from, err
	}
	var auth *warpket.ObjectAuth
	if from.Credentials != "" {
		sealed, err := s.sealed(ctx, project, from)
		if err != nil {
			return nil, from, err
		}
		opened, err := s.Secrets.ObjectAuth(ctx, project, from.Credentials, sealed)
		if err != nil {
			return nil, from, err
		}
		auth = &opened
	}
	done, err := s.fetches.take(ctx, project)
	if err != nil {
		return nil, from, err
	}
	defer done()
	return s.Fetcher.Object(ctx, from, auth)
}

// commit fetches from a Git repository, with what its secret holds.
func (s *Server) commit(ctx context.Context, project warpket.ID, from warpket.Source) ([]sources.File, warpket.Source, error) {
	if err := from.Check(); err != nil {
		return nil, from, err
	}
	var auth warpket.RegistryAuth
	if from.Credentials != "" {
		sealed, err := s.sealed(ctx, project, from)
		if err != nil {
			return nil, from, err
		}
		if auth, err = s.Secrets.RegistryAuth(ctx, project, from.Credentials, sealed); err != nil {
			return nil, from, err
		}
	}
	done, err := s.fetches.take(ctx, project)
	if err != nil {
		return nil, from, err
	}
	defer done()
	return s.Fetcher.Git(ctx, from, auth)
}

func (s *Server) sealed(ctx context.Context, project warpket.ID, from warpket.Source) ([]byte, error) {
	if err := s.hasSecret(ctx, project, from.Credentials); err != nil {
		if e, ok := errors.AsType[*warpket.Error](err); ok {
			return nil, e.At("%s.credentials", from.Kind)
		}
		return nil, err
	}
	return s.Store.SealedSecret(ctx, project, from.Credentials)
}

// takesForm marks operations whose body may be a form with an uploaded zip.
const takesForm = "form"

const formDoc = " The body may also be a form (multipart/form-data) with the zip as the file \"package\", \"md5\" and \"sha256\" of it, and the other properties as fields."

// formBody describes a body that is JSON or a form.
func formBody[T any](s *Server) *huma.RequestBody {
	all := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), false, "")
	form := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, Required: all.Required, AdditionalProperties: false}
	for name, property := range all.Properties {
		switch name {
		case "package", "object", "git", "templateFiles", "image", "command", "source", "functionId":
		default:
			form.Properties[name] = property
		}
	}
	form.Properties["package"] = &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "The zip"}
	form.Properties["md5"] = &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-fA-F]{32}$", Description: "MD5 of the zip, to be checked"}
	form.Properties["sha256"] = &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-fA-F]{64}$", Description: "SHA-256 of the zip, to be checked"}
	form.Required = append([]string{"package"}, form.Required...)
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": {Schema: form}}}
}

// formed turns a form with an uploaded zip into the JSON that says the same, so
// that whatever comes after knows one body only.
func (s *Server) formed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		_, pattern := s.mux.Handler(r)
		if kind != "multipart/form-data" || s.guards[pattern].Metadata[takesForm] == nil {
			next.ServeHTTP(w, r)
			return
		}
		body, err := s.body(w, r)
		if err == nil {
			body, err = fromForm(body, parameters["boundary"])
		}
		if err != nil {
			problemOf(err).write(w)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// fromForm makes JSON of a form.
func fromForm(body []byte, boundary string) ([]byte, error) {
	fields, zip := map[string]any{}, map[string]string{}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, warpket.Because(warpket.Malformed, err, "the form cannot be read: send it as multipart/form-data, as curl does with -F")
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, warpket.Because(warpket.Malformed, err, "the form breaks off")
		}
		switch name := part.FormName(); name {
		case "package":
			zip["contentBase64"] = base64.StdEncoding.EncodeToString(value)
		case "md5", "sha256":
			zip[name] = string(value)
		case "retries", "resources":
			if !json.Valid(value) {
				return nil, warpket.Errorf(warpket.Invalid, "the field %s is no JSON", name).At("%s", name)
			}
			fields[name] = json.RawMessage(value)
		default:
			fields[name] = string(value)
		}
	}
	if _, ok := zip["contentBase64"]; !ok {
		return nil, warpket.Errorf(warpket.Invalid, "the form has no file \"package\": add the zip, as in curl -F package=@function.zip").At("package")
	}
	fields["package"] = zip
	return json.Marshal(fields)
}
