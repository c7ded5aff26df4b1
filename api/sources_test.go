package api_test

import (
	"archive/zip"
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"mime/multipart"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/git"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/sources"
	"github.com/warpket/warpket/teststack"
)

// elsewhere fetches from this machine, as if it was somewhere else.
func elsewhere(t *testing.T) sources.Fetcher {
	t.Helper()
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	transport := egress.Guard{Allow: here}.Transport(nil)
	return sources.Fetcher{Repositories: git.Fetcher{Transport: transport, Plain: here}, Objects: sources.Objects{Transport: transport}}
}

// zipped is a zip of files, by path.
func zipped(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// form sends a form, with the value of "package" as a file.
func (w *world) form(t *testing.T, path string, fields map[string]string, header ...string) (int, string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for name, value := range fields {
		part, err := m.CreateFormField(name)
		if name == "package" {
			part, err = m.CreateFormFile(name, "function.zip")
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	status, _, body := w.send(t, "POST", path, b.String(), append([]string{"Content-Type", m.FormDataContentType()}, header...)...)
	return status, body
}

func paths(files []api.VersionFile) (out []string) {
	for _, f := range files {
		out = append(out, f.Filename)
	}
	return out
}

func TestAFunctionIsCreatedFromAnUploadedPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	packed := zipped(t, map[string]string{"main.py": "def run(event, context): return 1\n"})
	sum := md5.Sum([]byte(packed))
	fields := map[string]string{
		"functionName": "packed", "templateLanguageTag": "Python", "entry": "main.run", "retries": "2", "resources": `{"cpu":500}`,
		"package": packed, "md5": hex.EncodeToString(sum[:]), "sha256": strings.ToUpper(warpket.SHA256([]byte(packed))),
	}
	status, body := w.form(t, "/v1/functions", fields, "Idempotency-Key", "once")
	created := decode[api.CreatedFunction](t, body)
	if status != http.StatusOK || created.FunctionVersion.Source == nil || created.FunctionVersion.Entry != "main.run" {
		t.Fatalf("%d %s", status, body)
	}
	want := &api.VersionSource{Kind: "package", MD5: hex.EncodeToString(sum[:]), SHA256: warpket.SHA256([]byte(packed))}
	if diff := cmp.Diff(want, created.FunctionVersion.Source); diff != "" {
		t.Error(diff)
	}
	// Another boundary, the same request.
	if status, again := w.form(t, "/v1/functions", fields, "Idempotency-Key", "once"); status != http.StatusOK || again != body {
		t.Errorf("repeated: %d %s", status, again)
	}
	_, _, body = w.send(t, "GET", "/v1/functions/"+created.FunctionID, "")
	if d := decode[api.FunctionDetails](t, body); d.Source != "package" || d.Retries != 2 || d.Resources.CPU != 500 || len(d.Sources) != 1 || d.Sources[0].Filename != "main.py" {
		t.Errorf("it is %s", body)
	}

	path := "/v1/functions/" + created.FunctionID + "/versions"
	status, body = w.form(t, path, map[string]string{"description": "second", "package": zipped(t, map[string]string{"main.py": "x = 2\n", "a/b": "c"})})
	if v := decode[api.CreatedVersion](t, body).Data; status != http.StatusOK || v.Version != 2 || len(v.Files) != 2 || v.Description != "second" {
		t.Errorf("%d %s", status, body)
	}
	as64 := base64.StdEncoding.EncodeToString([]byte(packed))
	if status, _, body := w.send(t, "POST", path, `{"package":{"contentBase64":"`+as64+`"}}`); status != http.StatusOK || !strings.Contains(body, want.SHA256) {
		t.Errorf("as JSON: %d %s", status, body)
	}

	refused := map[string]struct {
		fields map[string]string
		status int
		text   string
	}{
		"a wrong md5":      {map[string]string{"package": packed, "md5": strings.Repeat("0", 32)}, 422, want.MD5},
		"a wrong sha256":   {map[string]string{"package": packed, "sha256": strings.Repeat("0", 64)}, 422, want.SHA256},
		"no checksum":      {map[string]string{"package": packed, "md5": "zero"}, 422, "pattern"},
		"no zip":           {map[string]string{"package": "def handler(): pass"}, 422, "zip -r"},
		"no package":       {map[string]string{"description": "x"}, 422, "-F package=@function.zip"},
		"a hostile path":   {map[string]string{"package": zipped(t, map[string]string{"../x": ""})}, 422, "leads out"},
		"too large a file": {map[string]string{"package": zipped(t, map[string]string{"x": strings.Repeat("x", warpket.MaxFileSize+1)})}, 413, "1 MiB"},
		"an unknown field": {map[string]string{"package": packed, "colour": "red"}, 422, "unexpected property"},
		"requirements":     {map[string]string{"package": zipped(t, map[string]string{"requirements.txt": "-r x"})}, 422, "requirements"},
	}
	for name, test := range refused {
		if status, body := w.form(t, path, test.fields); status != test.status || !strings.Contains(body, test.text) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, body := w.form(t, path, map[string]string{"package": packed}, "Authorization", "Bearer wk_wrong"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", status, body)
	}
	if status, body := w.form(t, "/v1/projects", map[string]string{"name": "x"}); status != http.StatusUnsupportedMediaType {
		t.Errorf("a form for what takes none: %d %s", status, body)
	}
}

func TestAFunctionIsFetchedFromAGitRepositoryAndFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := t.TempDir()
	g := worktree{dir: filepath.Join(root, "bell")}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g.git(t, "init", "-q", "-b", "main")
	g.write(t, "functions/bell/handler.py", "def handler(event, context): return 1\n")
	g.write(t, "README.md", "# bell\n")
	first := g.commit(t, "first")
	backend := &cgi.Handler{Path: filepath.Join(g.git(t, "--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root}, Stderr: &bytes.Buffer{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "swordfish" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	w.send(t, "POST", "/v1/secrets", `{"name":"GIT","value":"{\"username\":\"ada\",\"password\":\"swordfish\"}"}`)
	w.send(t, "POST", "/v1/secrets", `{"name":"NONSENSE","value":"swordfish"}`)

	at := server.URL + "/bell/.git"
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"fetched","templateLanguageTag":"Python","git":{"url":"`+at+`","path":"functions/bell","ref":"main","credentials":"GIT"}}`)
	created := decode[api.CreatedFunction](t, body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	want := &api.VersionSource{Kind: "git", URL: at, Ref: "main", Path: "functions/bell", Commit: first, Credentials: "GIT"}
	if diff := cmp.Diff(want, created.FunctionVersion.Source); diff != "" {
		t.Error(diff)
	}
	if got := paths(created.FunctionVersion.Files); !cmp.Equal(got, []string{"handler.py"}) {
		t.Errorf("its files are %v", got)
	}

	g.write(t, "functions/bell/handler.py", "def handler(event, context): return 2\n")
	second := g.commit(t, "second")
	path := "/v1/functions/" + created.FunctionID + "/versions"
	status, _, body = w.send(t, "POST", path, `{"git":{}}`)
	if v := decode[api.CreatedVersion](t, body).Data; status != http.StatusOK || v.Source.Commit != second || v.Source.Path != "functions/bell" {
		t.Errorf("fetched again: %d %s", status, body)
	}
	status, _, body = w.send(t, "POST", path, `{"git":{"ref":"`+first+`","path":""}}`)
	if v := decode[api.CreatedVersion](t, body).Data; status != http.StatusOK || v.Source.Commit != first || len(v.Files) != 2 {
		t.Errorf("an earlier commit, all of it: %d %s", status, body)
	}
	if _, _, body = w.send(t, "GET", "/v1/functions", ""); !strings.Contains(body, `"source":"git"`) {
		t.Errorf("listed as %s", body)
	}

	for name, test := range map[string]struct{ body, text string }{
		"a private host":           {`{"git":{"url":"https://10.0.0.1/x.git"}}`, "not a public address"},
		"a name of this machine":   {`{"git":{"url":"https://localhost:1/x.git"}}`, "localhost"},
		"no such branch":           {`{"git":{"ref":"trunk"}}`, `the branches \"main\"`},
		"no such folder":           {`{"git":{"path":"functions/ball"}}`, `the folders \"bell\"`},
		"without the secret":       {`{"git":{"credentials":""}}`, "name a secret in credentials"},
		"an unknown secret":        {`{"git":{"credentials":"OTHER"}}`, "POST /v1/secrets"},
		"a secret of another kind": {`{"git":{"credentials":"NONSENSE"}}`, "its value is to be"},
		"two sources":              {`{"git":{},"object":{}}`, "one of them"},
		"files and a source":       {`{"git":{},"templateFiles":[{"filename":"x","content":""}]}`, "one of them"},
		"an object of nowhere":     {`{"object":{}}`, "no name of a bucket"},
	} {
		status, _, body := w.send(t, "POST", path, test.body)
		if status != http.StatusUnprocessableEntity && status != http.StatusForbidden || !strings.Contains(body, test.text) || strings.Contains(body, "swordfish") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for name, test := range map[string]struct{ body, text string }{
		"a source without its property": {`{"functionName":"x1","templateLanguageTag":"Python","source":"git"}`, "say in git which"},
		"a property of another source":  {`{"functionName":"x1","templateLanguageTag":"Python","source":"object","git":{"url":"https://git.example/x"}}`, "leave git out"},
		"git for files":                 {`{"functionName":"x1","templateLanguageTag":"Python","source":"files","git":{"url":"https://git.example/x"}}`, "leave git out"},
		"git without a template":        {`{"functionName":"x1","git":{"url":"https://git.example/x"}}`, "templateLanguageTag is missing"},
	} {
		if status, _, body := w.send(t, "POST", "/v1/functions", test.body); status != http.StatusUnprocessableEntity || !strings.Contains(body, test.text) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestAFunctionIsFetchedFromAnObjectStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s3 := teststack.S3(t)
	u, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, ""), Region: s3.Region})
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, content string) {
		t.Helper()
		if _, err := client.PutObject(t.Context(), s3.Bucket, key, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put("bell.zip", zipped(t, map[string]string{"handler.py": "x = 1\n", "lib/x": "x"}))
	secret := `{\"endpoint\":\"` + s3.Endpoint + `\",\"accessKey\":\"` + s3.AccessKey + `\",\"secretKey\":\"` + s3.SecretKey + `\",\"region\":\"` + s3.Region + `\"}`
	w.send(t, "POST", "/v1/secrets", `{"name":"STORE","value":"`+secret+`"}`)

	create := func(name, object string) (int, string) {
		t.Helper()
		status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"`+name+`","templateLanguageTag":"Python","source":"object","object":`+object+`}`)
		return status, body
	}
	status, body := create("stored", `{"bucket":"`+s3.Bucket+`","key":"bell.zip","credentials":"STORE"}`)
	created := decode[api.CreatedFunction](t, body)
	if status != http.StatusOK || len(created.FunctionVersion.Files) != 2 || created.FunctionVersion.Source.ETag == "" || created.FunctionVersion.Source.Endpoint != s3.Endpoint {
		t.Fatalf("%d %s", status, body)
	}
	put("bell.zip", zipped(t, map[string]string{"handler.py": "x = 2\n"}))
	status, _, body = w.send(t, "POST", "/v1/functions/"+created.FunctionID+"/versions", `{"object":{}}`)
	v := decode[api.CreatedVersion](t, body).Data
	if status != http.StatusOK || len(v.Files) != 1 || v.Source.ETag == created.FunctionVersion.Source.ETag || v.Source.Key != "bell.zip" {
		t.Errorf("fetched again: %d %s", status, body)
	}
	if status, body := create("denied", `{"bucket":"`+s3.Bucket+`","key":"bell.zip"}`); status != http.StatusForbidden || !strings.Contains(body, "name in credentials a secret") {
		t.Errorf("without credentials: %d %s", status, body)
	}
	if status, body := create("own", `{"bucket":"`+w.s3.Bucket+`","key":"x"}`); status != http.StatusForbidden {
		t.Errorf("warpket's own bucket: %d %s", status, body)
	}
	if status, body := create("missing", `{"bucket":"`+s3.Bucket+`","key":"ball.zip","credentials":"STORE"}`); status != http.StatusUnprocessableEntity || !strings.Contains(body, "has no object") {
		t.Errorf("no such object: %d %s", status, body)
	}
}
