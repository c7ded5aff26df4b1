package cli

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// function answers for bell with its newest version.
func (s *api) function(newest string) {
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/functions/"+functionID, 200, strings.TrimSuffix(bell, "}")+`,"name":"bell","version":`+newest+`}`)
}

func TestDiffComparesTheNewestVersionWithTheOneBefore(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.function("3")
	s.on("GET /v1/functions/"+functionID+"/versions/{from}/diff/{to}", 200, `{"functionId":"`+functionID+`","from":2,"to":3,"same":false,"changes":[{"name":"entry","from":"a.b","to":"a.c"}],"files":[
		{"filename":"handler.py","status":"modified","diff":"--- a/handler.py\n+++ b/handler.py\n@@ -1,1 +1,1 @@\n-\tone\u001b[2J\n+two\n"},
		{"filename":"lib/new.py","from":"old.py","status":"renamed","diff":""},
		{"filename":"x.bin","status":"modified","binary":true,"oldSize":4,"newSize":5,"diff":""},
		{"filename":"big.txt","status":"added","tooLarge":true,"newSize":4096,"diff":""}]}`)
	for _, c := range []struct{ args, want string }{
		{"", "2/diff/3"}, {"1", "1/diff/3"}, {"v1 2", "1/diff/2"}, {"2 draft", "2/diff/0"},
	} {
		s.asked = nil
		got := s.command(t, append([]string{"diff", "bell"}, strings.Fields(c.args)...)...)
		if last := s.asked[len(s.asked)-1]; got.code != 0 || !strings.HasSuffix(last, c.want) {
			t.Errorf("diff bell %s asks %q and ends with %d: %s", c.args, last, got.code, got.err)
		}
		want := "entry: a.b -> a.c\n--- a/handler.py\n+++ b/handler.py\n@@ -1,1 +1,1 @@\n-\tone�[2J\n+two\nrenamed old.py -> lib/new.py\nmodified x.bin, which is no text (4 B -> 5 B)\nadded big.txt (0 B -> 4.0 KiB)\n"
		if diff := cmp.Diff(want, got.out); diff != "" {
			t.Error(diff)
		}
	}
	for _, version := range []string{"0", "-1", "two", "1.5"} {
		if got := s.command(t, "diff", "bell", "--", version); got.code == 0 || !strings.Contains(got.err, "is no version") {
			t.Errorf("version %s: %d %s", version, got.code, got.err)
		}
	}
}

func TestDiffOfTheOnlyVersionSaysWhatToName(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.function("1")
	if got := s.command(t, "diff", "bell"); got.code == 0 || !strings.Contains(got.err, "bell has one version") {
		t.Errorf("ended with %d: %s", got.code, got.err)
	}
}

// packed is a zip of files, by name and content.
func packed(t *testing.T, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		if err == nil {
			_, err = io.WriteString(w, pairs[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDownloadWritesAFolderThatCanBeDeployed(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.function("3")
	for path, content := range map[string]string{"versions/3": "newest", "versions/2": "second", "draft": "draft"} {
		s.mux.HandleFunc("GET /v1/functions/"+functionID+"/"+path+"/archive", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/zip")
			_, _ = io.WriteString(w, packed(t, "handler.py", content, "lib/a.py", "a", manifestName, "name: other\n"))
		})
	}
	for flag, want := range map[string]string{"": "newest", "--version=2": "second", "--version=draft": "draft"} {
		dir := filepath.Join(t.TempDir(), "bell")
		args := []string{"download", "bell", dir}
		if flag != "" {
			args = append(args, flag)
		}
		if got := s.command(t, args...); got.code != 0 {
			t.Fatalf("%s: %s", flag, got.err)
		}
		files, err := localFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 2 || files[0].name != "handler.py" || string(files[0].content) != want {
			t.Errorf("%s: wrote %q", flag, files)
		}
		if m, err := readManifest(dir); err != nil || m.Name != "bell" || m.SDKVersion != "0.45.3" {
			t.Errorf("%s: the manifest is %+v (%v)", flag, m, err)
		}
		if got := s.command(t, args...); got.code == 0 || !strings.Contains(got.err, "there already") {
			t.Errorf("again: %d %s", got.code, got.err)
		}
	}
}

func TestNothingOfADownloadLeavesItsFolder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../evil.py", "/evil.py", "a/../../evil.py"} {
		s := newAPI(t)
		s.function("1")
		s.mux.HandleFunc("GET /v1/functions/"+functionID+"/versions/1/archive", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, packed(t, name, "x"))
		})
		base := t.TempDir()
		if got := s.command(t, "download", "bell", filepath.Join(base, "bell")); got.code == 0 {
			t.Errorf("%s was written", name)
		}
		if _, err := os.Lstat(filepath.Join(base, "evil.py")); err == nil {
			t.Errorf("%s left the folder", name)
		}
	}
}

func TestVersionsAndWorkersAreThoseOfAFunction(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.function("2")
	s.on("GET /v1/functions/"+functionID+"/versions", 200, list(`{"version":2,"inDeployed":true,"executions":12,"files":[],"description":"better","createdDate":"2025-01-01T00:00:00Z"}`))
	s.on("GET /v1/functions/"+functionID+"/workers", 200, list(`{"slotId":"s1","node":"gpu-1","version":0,"status":"ready","devices":["gpu"],"since":"2025-01-01T00:00:00Z"}`))
	for what, want := range map[string][]string{"versions": {"2", "yes", "12", "0", "better"}, "workers": {"draft", "ready", "gpu-1", "on demand", "gpu", "s1"}} {
		got := s.command(t, "list", what, "--function", "bell")
		row := strings.Split(got.out, "\n")[1]
		for _, word := range want {
			if !strings.Contains(row, word) {
				t.Errorf("%s lists %q, without %q", what, row, word)
			}
		}
		if got := s.command(t, "list", what); got.code == 0 || !strings.Contains(got.err, "--function is missing") {
			t.Errorf("%s of no function: %d %s", what, got.code, got.err)
		}
	}
}

func TestAConditionIsNoName(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.function("1")
	if got := s.command(t, "delete", "has:b", "--yes"); got.code == 0 || len(s.requests()) != 0 {
		t.Errorf("it deleted what a condition finds: %s", got.err)
	}
}
