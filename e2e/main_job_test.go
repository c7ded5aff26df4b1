package e2e

import (
	"archive/zip"
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func TestTheMainJobFromTemplateToCounts(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	f := as[function](t, c.ok(t, "POST", "/v1/functions", object{"functionName": unique("bell"), "templateLanguageTag": "Qiskit", "sdkVersion": "0.45.3"}))
	if len(f.TemplateFiles) == 0 || f.TemplateFiles[0].Filename != "handler.py" || f.FunctionVersion.Version != 1 {
		t.Fatalf("created %+v", f)
	}
	stored := f.FunctionVersion.Files[0]
	if got := c.object(t, stored.Key); got != f.TemplateFiles[0].Content || stored.Status != "stored" {
		t.Errorf("the object store holds %q under %s, status %s", got, stored.Key, stored.Status)
	}

	d := as[struct {
		Status, TemporalURL string
		Ready               int
	}](t, c.deployment(t, "/v1/functions/"+f.FunctionID+"/versions/1", object{}))
	if d.Status != "ready" || d.Ready != 1 {
		t.Fatalf("deployed: %+v", d)
	}
	if !strings.Contains(d.TemporalURL, "/namespaces/") {
		t.Errorf("the Temporal UI's page is %q", d.TemporalURL)
	}

	e := c.execute(t, f.FunctionID, object{"shots": 1024, "seed": 7})
	counts := as[struct{ Counts map[string]int }](t, answer{body: e.Result}).Counts
	sum := 0
	for outcome, n := range counts {
		if outcome != "00" && outcome != "11" {
			t.Errorf("a Bell pair measured %q", outcome)
		}
		sum += n
	}
	if e.Status != "succeeded" || sum != 1024 || len(counts) != 2 {
		t.Fatalf("executed: %+v", e)
	}
	if again := c.execute(t, f.FunctionID, object{"shots": 1024, "seed": 7}); !bytes.Equal(again.Result, e.Result) {
		t.Errorf("the same seed gave %s and %s", e.Result, again.Result)
	}
	if log := c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil); !strings.Contains(string(log.body), "measured") {
		t.Errorf("the log is %q", log.body)
	}

	details := as[struct {
		Status  string
		Version int
		Sources []source
		Logs    []string
	}](t, c.ok(t, "GET", "/v1/functions/"+f.FunctionID, nil))
	if details.Status != "deployed" || details.Version != 1 || len(details.Sources) != 1 || len(details.Logs) == 0 {
		t.Errorf("details: %+v", details)
	}
}

// object reads an object as an operator would, with the store's own keys.
func (c *client) object(t *testing.T, key string) string {
	t.Helper()
	u, err := url.Parse(shared.dev.S3)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	s3, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(u.User.Username(), secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s3.GetObject(t.Context(), strings.Trim(u.Path, "/"), key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestVersionsAreImmutableAndDownloadable(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("versions"), "def handler(event, context):\n    return 2\n", nil)
	v2 := as[version](t, c.ok(t, "GET", "/v1/functions/"+id+"/versions/2", nil))
	v3 := as[struct{ Data version }](t, c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": []object{
		{"filename": "renamed.py", "fileId": v2.Files[0].ID},
		{"filename": "data/raw.bin", "contentBase64": "/wABAg=="},
		{"filename": "handler.py", "content": "import renamed\ndef handler(event, context):\n    return renamed.handler(event, context) + 1\n"},
	}})).Data
	if v3.Version != 3 || len(v3.Files) != 3 {
		t.Fatalf("published %+v", v3)
	}
	for number, want := range map[int]string{2: "2", 3: "3"} {
		if e := c.execute(t, id, object{"version": number}); string(e.Result) != want {
			t.Errorf("version %d gives %s: %+v", number, e.Result, e.Error)
		}
	}
	for _, path := range []string{"data/raw.bin", "data%2Fraw.bin"} {
		if got := c.ok(t, "GET", "/v1/functions/"+id+"/versions/3/files/"+path, nil).body; !bytes.Equal(got, []byte{255, 0, 1, 2}) {
			t.Errorf("%s holds %v", path, got)
		}
	}
	archive := c.ok(t, "GET", "/v1/functions/"+id+"/versions/3/archive", nil).body
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil || len(z.File) != 3 {
		t.Errorf("the archive has %v files: %v", z, err)
	}
}
