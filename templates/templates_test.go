package templates_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/templates"
)

func TestBuiltInTemplatesAreWhole(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t, "amd64")
	var tags []string
	for _, template := range catalog.Templates() {
		tags = append(tags, template.Tag)
		settings := warpket.Settings{Entry: template.Entry, Resources: warpket.DefaultResources}
		if err := settings.Check(); err != nil {
			t.Errorf("%s: %v", template.Tag, err)
		}
		if template.Description == "" || template.Smoke == "" {
			t.Errorf("%s lacks a description or a smoke program", template.Tag)
		}
		files := make([]warpket.File, 0, len(template.Files))
		for _, f := range template.Files {
			if f.Content == "" || f.Language == "" {
				t.Errorf("%s: %s is empty or of no language", template.Tag, f.Filename)
			}
			files = append(files, warpket.File{Path: f.Filename, Size: int64(len(f.Content))})
		}
		if err := warpket.CheckFiles(files); err != nil {
			t.Errorf("%s: %v", template.Tag, err)
		}
	}
	if diff := cmp.Diff([]string{"CUDA", "CUDA-Q", "CuPy", "Numba-CUDA", "Python", "Qiskit", "Qiskit-GPU"}, tags); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnknownTagIsAnsweredWithThoseThereAre(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t, "amd64")
	for tag, want := range map[string]string{
		"Cobol":  `there is no template with the tag "Cobol". The tags are: CUDA, CUDA-Q, CuPy, Numba-CUDA, Python, Qiskit, Qiskit-GPU`,
		"qiskit": `there is no template with the tag "qiskit"; did you mean "Qiskit"? The tags are: CUDA, CUDA-Q, CuPy, Numba-CUDA, Python, Qiskit, Qiskit-GPU`,
	} {
		_, err := catalog.Template(tag)
		checkInvalid(t, err, want)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	here := []string{"3.9", "3.11"}
	tests := map[string]struct {
		tag, version string
		pythons      []string
		arch         string
		want         string // version and Python
		err          string
	}{
		"a release":                        {"Qiskit", "0.45.3", here, "amd64", "0.45.3 on 3.11", ""},
		"what comes with it decides too":   {"Qiskit", "0.45.3", []string{"3.11", "3.13"}, "amd64", "0.45.3 on 3.11", ""},
		"what came later does not":         {"Qiskit", "0.45.0", []string{"3.12"}, "amd64", "", "qiskit 0.45.0 has wheels for Python 3.8, 3.9, 3.10, 3.11, and the nodes have Python 3.12; nearest: 0.45.3"},
		"another spelling":                 {"Qiskit", "0.45.03", here, "amd64", "0.45.3 on 3.11", ""},
		"the newest that fits":             {"Qiskit", "", here, "amd64", "2.6.2 on 3.11", ""},
		"the newest that fits an old one":  {"Qiskit", "", []string{"3.9"}, "amd64", "1.0.2 on 3.9", ""},
		"a pre-release when asked for":     {"Qiskit", "3.0.0rc1", here, "amd64", "3.0.0rc1 on 3.11", ""},
		"a yanked release when asked for":  {"Qiskit", "1.2.3", here, "amd64", "1.2.3 on 3.11", ""},
		"no release, with one below":       {"Qiskit", "0.45.9", here, "amd64", "", "0.45.9 is not a release of qiskit; nearest: 0.45.3"},
		"no release, yanked is no answer":  {"Qiskit", "1.2.9", here, "amd64", "", "1.2.9 is not a release of qiskit; nearest: 1.0.2"},
		"no release, newer than all":       {"Qiskit", "9.9", here, "amd64", "", "9.9 is not a release of qiskit; nearest: 2.6.2"},
		"too old":                          {"Qiskit", "0.44.3", here, "amd64", "", "qiskit 0.44.3 is too old: the oldest that the template Qiskit takes is 0.45.0"},
		"no version":                       {"Qiskit", "latest", here, "amd64", "", `"latest" is not a version; versions of qiskit look like 2.6.2`},
		"no wheels for these Pythons":      {"Qiskit", "2.6.2", []string{"3.9"}, "amd64", "", "qiskit 2.6.2 has wheels for Python 3.10, 3.11, 3.12, 3.13, 3.14, and the nodes have Python 3.9; nearest: 1.0.2"},
		"no wheels for the machine":        {"Qiskit", "2.6.2", here, "arm64", "", "qiskit 2.6.2 has no wheels for Linux on arm64, and the nodes have Python 3.9, 3.11"},
		"the code's package decides":       {"Qiskit", "0.45.3", here, "arm64", "", "qiskit 0.45.3 has no wheels for Linux on arm64, and the nodes have Python 3.9, 3.11"},
		"no Python at all":                 {"Qiskit", "", nil, "amd64", "", "no release of qiskit has wheels for Python none"},
		"an interpreter":                   {"Python", "3.9", here, "amd64", "3.9 on 3.9", ""},
		"the newest interpreter":           {"Python", "", []string{"3.9", "3.11", "3.10"}, "amd64", "3.11 on 3.11", ""},
		"an interpreter that is not there": {"Python", "3.12", here, "amd64", "", "no node has Python 3.12; there is 3.9, 3.11"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			catalog := newCatalog(t, test.arch)
			template, err := catalog.Template(test.tag)
			if err != nil {
				t.Fatal(err)
			}
			got, err := catalog.Resolve(t.Context(), template, test.version, test.pythons)
			if test.err != "" {
				checkInvalid(t, err, test.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text := got.Version + " on " + got.Python; text != test.want {
				t.Errorf("resolved to %s, want %s", text, test.want)
			}
		})
	}
}

func TestAReleaseTellsWhatToInstall(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t, "amd64")
	template, err := catalog.Template("Qiskit")
	if err != nil {
		t.Fatal(err)
	}
	got, err := catalog.Resolve(t.Context(), template, "0.45.3", []string{"3.11"})
	if err != nil {
		t.Fatal(err)
	}
	want := templates.Release{
		SDK: "qiskit", Version: "0.45.3", Python: "3.11",
		Packages: map[string]string{"qiskit": "==0.45.3", "qiskit-aer": ""},
		Until:    time.Date(2024, 2, 22, 1, 24, 27, 372671000, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVersionsAreThoseThatFit(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t, "amd64")
	for tag, want := range map[string][]string{
		"Qiskit": {"1.0.2", "0.45.3", "0.45.0"},
		"Python": {"3.9"},
	} {
		template, err := catalog.Template(tag)
		if err != nil {
			t.Fatal(err)
		}
		got, err := catalog.Versions(t.Context(), template, []string{"3.9"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", tag, diff)
		}
	}
}

// newCatalog makes a catalog on recorded answers of an index.
func newCatalog(t *testing.T, arch string) *templates.Catalog {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(filepath.Join("testdata", filepath.Base(r.URL.Path)+".json"))
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	catalog, err := templates.New(pypi.New(pypi.Config{URL: server.URL}), arch)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func checkInvalid(t *testing.T, err error, message string) {
	t.Helper()
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), message) {
		t.Errorf("error %v\nwant %s", err, message)
	}
}
