package api_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// worktree is a folder in which git runs.
type worktree struct {
	dir string
	url string
}

// try runs git.
func (g worktree) try(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", arguments...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HOME="+filepath.Dir(g.dir), "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// git runs git and expects it to work.
func (g worktree) git(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := g.try(t, arguments...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// refused runs git and expects it to fail with a text.
func (g worktree) refused(t *testing.T, text string, arguments ...string) {
	t.Helper()
	if out, err := g.try(t, arguments...); err == nil || !strings.Contains(out, text) {
		t.Errorf("git %s: %v, and does not say %q:\n%s", strings.Join(arguments, " "), err, text, out)
	}
}

func (g worktree) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(g.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g worktree) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// commit commits all that is there.
func (g worktree) commit(t *testing.T, message string) string {
	t.Helper()
	g.git(t, "add", "-A")
	g.git(t, "commit", "-m", message)
	return g.git(t, "rev-parse", "HEAD")
}

// gitURL is where a function is cloned from, with the token.
func (w *world) gitURL(function string) string {
	return strings.Replace(w.url, "://", "://user:"+w.token+"@", 1) + "/git/" + function + ".git"
}

// clone clones a function.
func (w *world) clone(t *testing.T, function string, options ...string) worktree {
	t.Helper()
	g := worktree{filepath.Join(t.TempDir(), "clone"), w.gitURL(function)}
	outside := worktree{dir: filepath.Dir(g.dir)}
	outside.git(t, append(append([]string{"clone"}, options...), g.url, g.dir)...)
	return g
}

// version publishes a version over HTTP.
func (w *world) version(t *testing.T, function, files string) {
	t.Helper()
	status, _, body := w.send(t, "POST", "/v1/functions/"+function+"/versions", `{"templateFiles":`+files+`,"description":"over HTTP"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
}

// buildsAll makes all runtimes available as soon as somebody asks.
func (w *world) buildsAll(t *testing.T) {
	w.build = func(r warpket.Runtime) {
		for _, message := range []string{"locking on node", ""} {
			status := warpket.RuntimeBuilding
			if message == "" {
				status = warpket.RuntimeAvailable
			}
			if _, err := w.store.SaveRuntime(t.Context(), r.ID, status, "", message, time.Now()); err != nil {
				t.Error(err)
			}
			w.hub.Changed(r.ID)
		}
	}
}

func TestAFunctionIsClonedEditedAndPushed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "cloned")
	w.version(t, id, `[{"filename":"handler.py","content":"def handler(event, context):\n    return 2\n"},{"filename":"lib/deep/data.txt","content":"two"},{"filename":"empty","content":""}]`)

	g := w.clone(t, id)
	if g.read(t, "lib/deep/data.txt") != "two" || g.read(t, "empty") != "" {
		t.Error("the clone is not the newest version")
	}
	if tags, log := g.git(t, "tag"), g.git(t, "log", "--format=%s", "main"); tags != "v1\nv2" || log != "over HTTP\nVersion 1" {
		t.Errorf("tags %q, log %q", tags, log)
	}
	g.git(t, "fsck", "--strict")

	g.write(t, "handler.py", "def handler(event, context):\n    return 3\n")
	g.write(t, "new/file.txt", "new")
	g.commit(t, "an intermediate step")
	g.write(t, "new/file.txt", "newer")
	pushed := g.commit(t, "Return three\n\nFor a reason.")
	out := g.git(t, "push", "origin", "main")
	for _, text := range []string{"remote: cloned: version 3, with 4 files", "remote: runtime: python", "is available", "remote: next: POST /v1/functions/" + id + "/versions/3/deployments"} {
		if !strings.Contains(out, text) {
			t.Errorf("the pusher is not told %q:\n%s", text, out)
		}
	}
	if out := g.git(t, "pull", "--ff-only"); !strings.Contains(out, "Already up to date") {
		t.Errorf("after the push, a pull says %s", out)
	}

	_, _, body := w.send(t, "GET", "/v1/functions/"+id+"/versions/3", "")
	v := decode[api.FunctionVersion](t, body)
	if v.Source == nil || v.Source.Kind != "push" || v.Source.Commit != pushed || !strings.HasPrefix(v.Description, "Return three") || len(v.Files) != 4 {
		t.Errorf("the version is %s", body)
	}
	if _, _, body := w.send(t, "GET", "/v1/functions/"+id+"/versions/3/files/new/file.txt", ""); body != "newer" {
		t.Errorf("the file is %q", body)
	}

	other := w.clone(t, id)
	if head := other.git(t, "rev-parse", "HEAD", "v3"); head != pushed+"\n"+pushed {
		t.Errorf("the pushed commit is %s, and cloned it is %s", pushed, head)
	}
	other.git(t, "fsck", "--strict")
	w.version(t, id, `[{"filename":"handler.py","content":"def handler(event, context):\n    return 4\n"}]`)
	g.git(t, "pull", "--ff-only")
	if !strings.Contains(g.read(t, "handler.py"), "return 4") || g.git(t, "rev-parse", "v4^") != pushed {
		t.Error("a version over HTTP does not follow the one that was pushed")
	}
}

func TestCommitsOfVersionsAreTheSameHoweverOftenTheyAreMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "stable")
	first := w.clone(t, id)
	w.version(t, id, `[{"filename":"handler.py","content":"x = 1\n"},{"filename":".git/config","content":"x"},{"filename":"a/GIT~1/x","content":"x"}]`)
	second, third := w.clone(t, id), w.clone(t, id)
	if a, b := second.git(t, "rev-parse", "HEAD", "v1"), third.git(t, "rev-parse", "HEAD", "v1"); a != b {
		t.Errorf("one clone is %s, another %s", a, b)
	}
	first.git(t, "pull", "--ff-only")
	if files := second.git(t, "ls-files"); files != "handler.py" {
		t.Errorf("the clone has %q", files)
	}
}

func TestAShallowCloneCanBePushedFromAndCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "shallow")
	for i := range 4 {
		w.version(t, id, fmt.Sprintf(`[{"filename":"handler.py","content":"x = %d\n"}]`, i))
	}
	g := w.clone(t, id, "--depth", "1")
	if n := g.git(t, "rev-list", "--count", "HEAD"); n != "1" {
		t.Errorf("a clone of depth 1 has %s commits", n)
	}
	g.write(t, "handler.py", "x = 10\n")
	g.commit(t, "ten")
	g.git(t, "push")
	g.git(t, "fetch", "--depth", "3")
	if n := g.git(t, "rev-list", "--count", "HEAD"); n != "3" {
		t.Errorf("at depth 3 it has %s commits", n)
	}
	w.version(t, id, `[{"filename":"handler.py","content":"x = 11\n"}]`)
	g.git(t, "pull", "--ff-only")
	g.git(t, "fetch", "--unshallow")
	if n := g.git(t, "rev-list", "--count", "HEAD"); n != "7" {
		t.Errorf("completed it has %s commits", n)
	}
	g.git(t, "fsck", "--strict")
}

func TestAMergeIsPushedAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "merged")
	g := w.clone(t, id)
	g.git(t, "switch", "-q", "-c", "side")
	g.write(t, "side.py", "x = 1\n")
	g.commit(t, "beside")
	g.git(t, "switch", "-q", "main")
	w.version(t, id, `[{"filename":"handler.py","content":"x = 1\n"}]`)
	g.git(t, "pull", "-q", "--ff-only")
	g.git(t, "merge", "-q", "--no-ff", "-m", "Both", "side")
	g.git(t, "update-index", "--chmod=+x", "side.py")
	g.git(t, "commit", "-q", "-m", "A program")
	g.git(t, "push", "origin", "main")
	other := w.clone(t, id)
	if a, b := g.git(t, "rev-parse", "HEAD", "HEAD^^2"), other.git(t, "rev-parse", "HEAD", "v3^^2"); a != b {
		t.Errorf("pushed %s, cloned %s", a, b)
	}
	if files := other.git(t, "ls-files", "-s", "side.py"); !strings.HasPrefix(files, "100755") {
		t.Errorf("the program is %s", files)
	}
}

func TestPushesThatCannotBeAVersionSayWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "refusing")
	g := w.clone(t, id)
	start := g.git(t, "rev-parse", "HEAD")
	again := func() { g.git(t, "reset", "--hard", start) }

	g.refused(t, "there is only main", "push", "origin", "HEAD:refs/heads/other")
	g.git(t, "tag", "release")
	g.refused(t, "tags are made here", "push", "origin", "release")
	g.refused(t, "main cannot be deleted", "push", "origin", ":main")

	g.write(t, "handler.py", "x = 1\n")
	g.git(t, "commit", "-a", "--amend", "-m", "another first")
	g.refused(t, "non-fast-forward", "push", "origin", "main")
	g.refused(t, "git pull --rebase", "push", "--force", "origin", "main")
	again()

	if err := os.Symlink("/etc/passwd", filepath.Join(g.dir, "link")); err != nil {
		t.Fatal(err)
	}
	g.commit(t, "a link")
	g.refused(t, `"link" is a symbolic link`, "push", "origin", "main")
	again()

	g.git(t, "update-index", "--add", "--cacheinfo", "160000,"+start+",module")
	g.git(t, "commit", "-m", "a submodule")
	g.refused(t, `"module" is a submodule`, "push", "origin", "main")
	again()

	g.write(t, "large.bin", strings.Repeat("x", warpket.MaxFileSize+1))
	g.commit(t, "a large file")
	g.refused(t, "an object of more than 1 MiB", "push", "origin", "main")
	again()

	g.write(t, "requirements.txt", "-e .\n")
	g.commit(t, "bad requirements")
	g.refused(t, "remote rejected", "push", "origin", "main")
	again()

	g.git(t, "rm", "-r", "-q", ".")
	g.git(t, "commit", "-m", "nothing is left")
	g.refused(t, "at least one file", "push", "origin", "main")
	again()

	w.version(t, id, `[{"filename":"handler.py","content":"x = 2\n"}]`)
	g.write(t, "other.py", "x = 1\n")
	g.commit(t, "beside")
	g.refused(t, "fetch first", "push", "origin", "main")
	g.git(t, "pull", "--rebase")
	g.git(t, "push", "origin", "main")

	_, _, body := w.send(t, "GET", "/v1/functions/"+id, "")
	if d := decode[api.FunctionDetails](t, body); d.Version != 3 {
		t.Errorf("after all that it has the version %d", d.Version)
	}
}

func TestGitIsAskedForATokenThatMayDoIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "guarded")
	_, _, body := w.send(t, "POST", "/v1/projects", `{"name":"elsewhere"}`)
	other := decode[struct{ ID string }](t, body).ID
	token := func(project, role string) string {
		t.Helper()
		status, _, body := w.send(t, "POST", "/v1/tokens", `{"projectId":"`+project+`","role":"`+role+`","name":"git"}`)
		if status >= 300 {
			t.Fatalf("%d %s", status, body)
		}
		return decode[struct{ Token string }](t, body).Token
	}
	_, _, body = w.send(t, "GET", "/v1/projects", "")
	home := ""
	for _, p := range decode[struct{ Items []struct{ ID, Name string } }](t, body).Items {
		if p.Name == warpket.DefaultProject {
			home = p.ID
		}
	}

	status, header, body := w.send(t, "GET", "/git/"+id+".git/info/refs?service=git-upload-pack", "", "Authorization", "")
	if status != http.StatusUnauthorized || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("without a token: %d %s %s", status, header.Get("WWW-Authenticate"), body)
	}
	outside := worktree{dir: t.TempDir()}
	at := func(user string) string {
		return strings.Replace(w.url, "://", "://"+user+"@", 1) + "/git/" + id + ".git"
	}
	outside.refused(t, "Authentication failed", "clone", at("user:wk_wrong"), "wrong")
	outside.refused(t, "there is no function", "clone", at("user:"+token(other, "admin")), "other")
	outside.refused(t, "there is no function", "clone", strings.Replace(w.gitURL(id), id, string(warpket.NewID(time.Now())), 1), "none")
	outside.git(t, "-c", "http.extraHeader=Authorization: Bearer "+w.token, "clone", w.url+"/git/"+id, "bearer")
	outside.git(t, "clone", at(token(home, "viewer")+":"), "viewer")
	viewer := worktree{dir: filepath.Join(outside.dir, "viewer")}
	viewer.write(t, "x", "x")
	viewer.commit(t, "x")
	viewer.refused(t, "needs the role member", "push")
}

func TestAPushOfManyFilesIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "many")
	g := w.clone(t, id)
	for i := range 300 {
		g.write(t, fmt.Sprintf("data/%d/%d.txt", i%7, i), strings.Repeat(fmt.Sprintf("%d is a number that is written again and again\n", i), 300))
	}
	g.commit(t, "many")
	for i := range 300 { // so that git packs differences
		g.write(t, fmt.Sprintf("data/%d/%d.txt", i%7, i), strings.Repeat(fmt.Sprintf("%d is a number that is written again and again\n", i), 300)+"end")
	}
	g.commit(t, "more")
	g.git(t, "-c", "http.postBuffer=1000", "push")
	other := w.clone(t, id)
	if a, b := g.git(t, "rev-parse", "HEAD^{tree}"), other.git(t, "rev-parse", "HEAD^{tree}"); a != b {
		t.Errorf("pushed %s, cloned %s", a, b)
	}
	other.git(t, "fsck", "--strict")
}

func TestAFunctionIsFetchedFromTheRepositoryOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := w.function(t, "original")
	w.version(t, from, `[{"filename":"lib/handler.py","content":"x = 1\n"}]`)
	w.send(t, "POST", "/v1/secrets", `{"name":"GIT","value":"{\"token\":\"`+w.token+`\"}"}`)
	for _, ref := range []string{"", "v2", "main"} {
		status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"copy`+ref+`","templateLanguageTag":"Python","git":{"url":"`+w.url+`/git/`+from+`.git","ref":"`+ref+`","path":"lib","credentials":"GIT"}}`)
		if v := decode[api.CreatedFunction](t, body).FunctionVersion; status != http.StatusOK || len(v.Files) != 1 || v.Files[0].Filename != "handler.py" || len(v.Source.Commit) != 40 {
			t.Errorf("at %q: %d %s", ref, status, body)
		}
	}
}

func TestAPushGetsWhatTheRuntimeOfItsFunctionIsMadeOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	w.images.tags["registry.example/python:3"] = digest1
	r := w.newRuntime(t, labOfImage)
	w.built(t, warpket.RuntimeAvailable)
	_, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"in-image","runtimeId":"`+r.ID+`","templateFiles":[{"filename":"handler.py","content":"print(1)"}]}`)
	id := decode[api.CreatedFunction](t, body).FunctionID
	w.images.tags["registry.example/python:3"] = digest2
	if status, _, body := w.send(t, "PATCH", "/v1/runtimes/"+r.ID, `{"image":"registry.example/python:3"}`); status >= 300 {
		t.Fatalf("%d %s", status, body)
	}
	w.built(t, warpket.RuntimeAvailable)
	g := w.clone(t, id)
	g.write(t, "handler.py", "print(2)")
	g.commit(t, "two")
	g.git(t, "push")
	_, _, body = w.send(t, "GET", "/v1/functions/"+id+"/versions/2", "")
	if v := decode[api.FunctionVersion](t, body); v.ImageDigest != digest2 || len(v.Files) != 1 || v.Source == nil || v.Source.Kind != "push" {
		t.Errorf("what was pushed is %s", body)
	}
}

func TestPushesThatComeSlowlyKeepNoOtherProjectWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	slow := w.function(t, "slow")
	for range 8 { // more than are read at a time
		body, more := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/git/"+slow+".git/git-receive-pack", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+w.token)
		go func() {
			if answer, err := http.DefaultClient.Do(r); err == nil {
				_ = answer.Body.Close()
			}
		}()
		if _, err := more.Write([]byte("00")); err != nil { // and no more: it is at the server
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = more.Close() })
	}
	_, _, body := w.send(t, "POST", "/v1/projects", `{"name":"elsewhere"}`)
	other := decode[struct{ ID string }](t, body).ID
	_, _, body = w.send(t, "POST", "/v1/functions", `{"functionName":"quick","templateLanguageTag":"Python"}`, "X-Project-Id", other)
	quick := decode[api.CreatedFunction](t, body).FunctionID
	_, _, body = w.send(t, "POST", "/v1/tokens", `{"projectId":"`+other+`","role":"member","name":"git"}`)
	g := worktree{dir: filepath.Join(t.TempDir(), "clone")}
	outside := worktree{dir: filepath.Dir(g.dir)}
	outside.git(t, "clone", strings.Replace(w.url, "://", "://user:"+decode[struct{ Token string }](t, body).Token+"@", 1)+"/git/"+quick, g.dir)
	g.write(t, "handler.py", "def handler(event, context): return 2\n")
	g.commit(t, "two")
	g.git(t, "push")
}
