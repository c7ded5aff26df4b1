package git_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/git"
)

// run runs git in a folder.
func run(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", arguments...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir, "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// served is a repository that Git's own server serves, to whom knows the
// password.
func served(t *testing.T, password string) (dir, url string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "bell")
	if err := os.MkdirAll(filepath.Join(dir, "functions/bell/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"README.md": "# all\n", "functions/bell/handler.py": "def handler(event, context): return 1\n", "functions/bell/lib/x.txt": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "init", "-q", "-b", "trunk")
	run(t, dir, "config", "http.receivepack", "false")
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", "first")
	run(t, dir, "tag", "-a", "v1", "-m", "release")
	backend := &cgi.Handler{Path: filepath.Join(run(t, dir, "--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root}, Stderr: io.Discard}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return dir, server.URL + "/bell/.git"
}

var here = git.Fetcher{Transport: http.DefaultTransport, Plain: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func TestFetchGivesTheFilesOfACommit(t *testing.T) {
	t.Parallel()
	dir, url := served(t, "")
	first := run(t, dir, "rev-parse", "HEAD")
	run(t, dir, "rm", "-q", "-r", "functions/bell/lib")
	run(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+first+",functions/bell/module")
	run(t, dir, "commit", "-q", "-m", "second")
	second := run(t, dir, "rev-parse", "HEAD")
	handler := git.File{Path: "handler.py", Content: []byte("def handler(event, context): return 1\n")}
	whole := []git.File{{Path: "README.md", Content: []byte("# all\n")}, {Path: "functions/bell/handler.py", Content: handler.Content}}
	tests := map[string]struct {
		ref, path, commit string
		files             []git.File
	}{
		"all of the default branch":  {"", "", second, whole},
		"a branch":                   {"trunk", "", second, whole},
		"a full name":                {"refs/heads/trunk", "functions/bell", second, []git.File{handler}},
		"an annotated tag, a folder": {"v1", "functions/bell", first, []git.File{handler, {Path: "lib/x.txt", Content: []byte("x")}}},
		"a commit":                   {second, "functions/bell", second, []git.File{handler}},
	}
	for name, test := range tests {
		files, commit, err := here.Fetch(t.Context(), warpket.Source{Kind: warpket.SourceGit, URL: url, Ref: test.ref, Path: test.path}, warpket.RegistryAuth{})
		if err != nil || commit != test.commit {
			t.Errorf("%s: %s %v", name, commit, err)
			continue
		}
		if diff := cmp.Diff(test.files, files); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFetchShowsCredentialsAndTellsNobodyElse(t *testing.T) {
	t.Parallel()
	_, url := served(t, "swordfish")
	from := warpket.Source{Kind: warpket.SourceGit, URL: url}
	for name, auth := range map[string]warpket.RegistryAuth{"a password": {User: "ada", Password: "swordfish"}, "a token": {Token: "swordfish"}} {
		if files, _, err := here.Fetch(t.Context(), from, auth); err != nil || len(files) != 3 {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
	_, _, err := here.Fetch(t.Context(), from, warpket.RegistryAuth{Token: "clownfish"})
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "name a secret in credentials") || strings.Contains(err.Error(), "clownfish") {
		t.Errorf("with a wrong token: %v", err)
	}
}

func TestFetchSaysWhatWouldWork(t *testing.T) {
	t.Parallel()
	dir, url := served(t, "")
	if err := os.Symlink("README.md", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", "a link")
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("x", 1000))) }))
	t.Cleanup(nonsense.Close)
	tests := map[string]struct {
		url, ref, path string
		kind           warpket.Kind
		text           string
	}{
		"no such branch":          {url, "main", "", warpket.Invalid, `it has, for instance, the branches "trunk"`},
		"no such commit":          {url, strings.Repeat("1", 40), "", warpket.Invalid, "name a branch or a tag"},
		"no such folder":          {url, "", "functions/ball", warpket.Invalid, `beside "ball" are the folders "bell"`},
		"a file as a folder":      {url, "", "README.md", warpket.Invalid, `are the folders "functions"`},
		"a link":                  {url, "", "", warpket.Invalid, "plain files only"},
		"no such repository":      {strings.Replace(url, "bell", "ball", 1), "", "", warpket.Invalid, "has no repository"},
		"nobody there":            {closed.URL + "/x.git", "", "", warpket.Invalid, "did not give"},
		"no Git there":            {nonsense.URL + "/x.git", "", "", warpket.Invalid, "did not give"},
		"no TLS":                  {"http://git.example/x.git", "", "", warpket.Invalid, "give a URL with https"},
		"SSH":                     {"ssh://git@git.example/x.git", "", "", warpket.Invalid, "SSH is not spoken"},
		"a path of this machine":  {"/etc", "", "", warpket.Invalid, "is not the URL"},
		"a file of this machine":  {"file:///etc", "", "", warpket.Invalid, "is not the URL"},
		"a password in the URL":   {"https://ada:x@git.example/x.git", "", "", warpket.Invalid, "keep them in a secret"},
		"a ref that is an option": {url, "--upload-pack=x", "", warpket.Invalid, "no name of a branch"},
		"a path that leads out":   {url, "", "../x", warpket.Invalid, "leads out"},
	}
	for name, test := range tests {
		_, _, err := here.Fetch(t.Context(), warpket.Source{Kind: warpket.SourceGit, URL: test.url, Ref: test.ref, Path: test.path}, warpket.RegistryAuth{})
		if warpket.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := here.Fetch(ctx, warpket.Source{Kind: warpket.SourceGit, URL: url}, warpket.RegistryAuth{}); err == nil {
		t.Error("it does not end with its context")
	}
}

func TestFetchIsNotLedAwayFromTLS(t *testing.T) {
	t.Parallel()
	_, url := served(t, "")
	var asked atomic.Bool
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.RequestURI(), http.StatusFound)
	}))
	t.Cleanup(secure.Close)
	strict := git.Fetcher{Transport: secure.Client().Transport}
	_, _, err := strict.Fetch(t.Context(), warpket.Source{Kind: warpket.SourceGit, URL: secure.URL + "/bell/.git"}, warpket.RegistryAuth{Token: "swordfish"})
	if warpket.KindOf(err) != warpket.Invalid || asked.Load() {
		t.Errorf("redirected: %v", err)
	}
	if _, _, err := strict.Fetch(t.Context(), warpket.Source{Kind: warpket.SourceGit, URL: url}, warpket.RegistryAuth{}); warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("without TLS: %v", err)
	}
}
