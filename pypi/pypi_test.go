package pypi_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
)

func TestReleasesAreReadFromJSONAndHTML(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	index := pypi.New(pypi.Config{URL: server.URL + "/simple"})

	project, err := index.Project(t.Context(), "Qiskit")
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, r := range project.Releases() {
		versions = append(versions, r.Version)
	}
	if diff := cmp.Diff([]string{"3.0.0rc1", "2.6.2", "1.2.3", "1.0.2", "0.45.3", "0.45.0", "0.44.3"}, versions); diff != "" {
		t.Error(diff)
	}
	old := project.Releases()[3]
	if want := time.Date(2024, 3, 7, 23, 0, 0, 0, time.UTC); !old.Uploaded.Equal(want) {
		t.Errorf("1.0.2 was uploaded %s, want the first of its files, %s", old.Uploaded, want)
	}
	if want := server.URL + "/packages/"; !strings.HasPrefix(old.Wheels[0].URL, want) {
		t.Errorf("address %s, want it below %s", old.Wheels[0].URL, want)
	}
	if !project.Releases()[2].Yanked {
		t.Error("1.2.3 is not yanked")
	}

	server.html.Store(true)
	terra, err := index.Project(t.Context(), "qiskit_terra")
	if err != nil {
		t.Fatal(err)
	}
	want := pypi.Project{Name: "qiskit-terra", Page: server.URL + "/simple/qiskit-terra/", Files: []pypi.File{
		{
			Name: "qiskit_terra-0.45.0-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
			URL:  server.URL + "/packages/b.whl", SHA256: "bb02", RequiresPython: ">=3.8",
			Uploaded: time.Date(2023, 11, 3, 12, 30, 59, 0, time.UTC),
		},
		{
			Name: "qiskit_terra-0.45.3-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
			URL:  "https://files.invalid/c.whl", SHA256: "bb03", RequiresPython: ">=3.8", Yanked: true,
		},
	}}
	if diff := cmp.Diff(want, terra); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersAreKept(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	config := pypi.Config{URL: server.URL + "/simple", CacheDir: filepath.Join(t.TempDir(), "index"), Clock: func() time.Time { return now }}
	index := pypi.New(config)
	ask := func(what string, asked int64) {
		t.Helper()
		if _, err := index.Project(t.Context(), "qiskit"); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if n := server.asked.Load(); n != asked {
			t.Errorf("%s: the index was asked %d times, want %d", what, n, asked)
		}
	}
	ask("the first time", 1)
	ask("at once", 1)
	now = now.Add(11 * time.Minute)
	ask("when the answer is old", 2)
	index = pypi.New(config)
	ask("after a restart", 2)
	now = now.Add(11 * time.Minute)
	server.down.Store(true)
	ask("without the index", 3)
	ask("again without the index", 3)
	now = now.Add(2 * time.Minute)
	server.down.Store(false)
	ask("with the index back", 4)

	_, err := index.Project(t.Context(), "nonesuch")
	if warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("a package that is not there: %v", err)
	}
	server.down.Store(true)
	_, err = index.Project(t.Context(), "other")
	if warpket.KindOf(err) != warpket.Unavailable || !strings.Contains(err.Error(), "could not be asked about other") {
		t.Errorf("without the index: %v", err)
	}
	_, err = index.Project(t.Context(), "../secrets")
	if warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("a path for a name: %v", err)
	}
}

func TestManyWhoAskAtOnceAreOneQuestion(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	index := pypi.New(pypi.Config{URL: server.URL + "/simple"})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := index.Project(t.Context(), "qiskit"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := server.asked.Load(); n != 1 {
		t.Errorf("the index was asked %d times", n)
	}
}

func TestADownloadIsChecked(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	index := pypi.New(pypi.Config{URL: server.URL})
	file := pypi.File{Name: "x.whl", URL: server.URL + "/packages/x.whl", SHA256: warpket.SHA256([]byte("wheel"))}
	if content, err := index.Download(t.Context(), file); err != nil || string(content) != "wheel" {
		t.Errorf("%q, %v", content, err)
	}
	file.SHA256 = warpket.SHA256([]byte("another"))
	if _, err := index.Download(t.Context(), file); err == nil {
		t.Error("a wrong hash was taken")
	}
}

func TestWheelsFit(t *testing.T) {
	t.Parallel()
	const linux = "manylinux_2_17_x86_64.manylinux2014_x86_64"
	tests := map[string]struct {
		file, requires, arch, python string
		want                         bool
	}{
		"its own minor":            {"p-1.0-cp311-cp311-" + linux, "", "amd64", "3.11", true},
		"another minor":            {"p-1.0-cp311-cp311-" + linux, "", "amd64", "3.12", false},
		"abi3 for a newer minor":   {"p-1.0-cp38-abi3-" + linux, "", "amd64", "3.13", true},
		"abi3 for an older minor":  {"p-1.0-cp310-abi3-" + linux, "", "amd64", "3.9", false},
		"free-threaded":            {"p-1.0-cp314-cp314t-" + linux, "", "amd64", "3.14", false},
		"pure":                     {"p-1.0-py3-none-any", "", "arm64", "3.11", true},
		"pure for both majors":     {"p-1.0-py2.py3-none-any", "", "amd64", "3.11", true},
		"pure with a least minor":  {"p-1.0-py310-none-any", "", "amd64", "3.9", false},
		"Python 2":                 {"p-1.0-py2-none-any", "", "amd64", "3.11", false},
		"another machine":          {"p-1.0-cp311-cp311-manylinux_2_17_aarch64", "", "amd64", "3.11", false},
		"arm":                      {"p-1.0-cp311-cp311-manylinux_2_17_aarch64", "", "arm64", "3.11", true},
		"musl":                     {"p-1.0-cp311-cp311-musllinux_1_2_x86_64", "", "amd64", "3.11", true},
		"plain linux":              {"p-1.0-cp311-cp311-linux_x86_64", "", "amd64", "3.11", true},
		"windows":                  {"p-1.0-cp311-cp311-win_amd64", "", "amd64", "3.11", false},
		"macOS":                    {"p-1.0-cp311-cp311-macosx_10_9_x86_64", "", "amd64", "3.11", false},
		"a build number":           {"p-1.0-1-cp311-cp311-" + linux, "", "amd64", "3.11", true},
		"requires an older Python": {"p-1.0-py3-none-any", ">=3.8,<3.11", "amd64", "3.11", false},
		"requires a newer Python":  {"p-1.0-py3-none-any", ">=3.12", "amd64", "3.11", false},
		"requires a patch":         {"p-1.0-py3-none-any", ">=3.11.4", "amd64", "3.11", true},
		"requires not this":        {"p-1.0-py3-none-any", "!=3.11.*", "amd64", "3.11", false},
		"requires nonsense":        {"p-1.0-py3-none-any", "what?", "amd64", "3.11", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ok := pypi.ParseWheel(pypi.File{Name: test.file + ".whl", RequiresPython: test.requires})
			if !ok {
				t.Fatal("no wheel")
			}
			if got := w.FitsPlatform(test.arch) && w.FitsPython(test.python); got != test.want {
				t.Errorf("fits: %v", got)
			}
		})
	}
	for _, name := range []string{"p-1.0.tar.gz", "p.whl", "p-1.0-cp311-cp311.whl"} {
		if _, ok := pypi.ParseWheel(pypi.File{Name: name}); ok {
			t.Errorf("%s is taken for a wheel", name)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	if pypi.Compare("0.45.10", "0.45.9") <= 0 || pypi.Compare("1.0rc1", "1.0") >= 0 || pypi.Compare("1.0", "1.0.0") != 0 {
		t.Error("versions are out of order")
	}
	for version, want := range map[string]bool{"1.0": true, "0.46.3": true, "1.0.post1": true, "1.0rc1": false, "1.0.dev2": false, "x": false} {
		if got := pypi.Stable(version); got != want {
			t.Errorf("%s is stable: %v", version, got)
		}
	}
}

// server is an index.
type server struct {
	*httptest.Server
	asked atomic.Int64
	down  atomic.Bool
	html  atomic.Bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simple/{name}/", func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		ending, contentType := ".json", "application/vnd.pypi.simple.v1+json"
		if s.html.Load() {
			ending, contentType = ".html", "text/html"
		}
		content, err := os.ReadFile(filepath.Join("testdata", r.PathValue("name")+ending))
		switch {
		case s.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case err != nil:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(content)
		}
	})
	mux.HandleFunc("GET /packages/x.whl", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("wheel")) })
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}
