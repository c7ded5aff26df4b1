package e2e

import (
	"archive/zip"
	"bytes"
	"fmt"
	"mime/multipart"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// git runs git in a folder, as somebody who has nothing set up.
func git(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", arguments...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir, "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// edit writes handler.py in a clone and pushes it.
func edit(t *testing.T, dir, code string) (pushed string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "handler.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "commit", "-q", "-a", "-m", "Answer otherwise")
	return git(t, dir, "push")
}

const answers = "def handler(event, context): return %d\n"

func TestAFunctionIsClonedEditedPushedAndRun(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("git"), fmt.Sprintf(answers, 1), nil)
	dir := filepath.Join(t.TempDir(), "clone")
	git(t, filepath.Dir(dir), "clone", "-q", strings.Replace(c.api, "://", "://user:"+c.token+"@", 1)+"/git/"+id+".git", dir)

	pushed := edit(t, dir, fmt.Sprintf(answers, 2))
	for _, text := range []string{"version 3, with", "is available", "next: POST /v1/functions/" + id + "/versions/3/deployments"} {
		if !strings.Contains(pushed, text) {
			t.Errorf("the pusher is not told %q:\n%s", text, pushed)
		}
	}
	if e := c.execute(t, id, nil); string(e.Result) != "2" || e.Version != 3 {
		t.Errorf("it ended %+v", e)
	}
	if out := git(t, dir, "pull"); !strings.Contains(out, "Already up to date") {
		t.Errorf("a pull after the push says %s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "requirements.txt"), []byte("no-such-package-of-anybody==1.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", "requirements.txt")
	if pushed := edit(t, dir, fmt.Sprintf(answers, 3)); !strings.Contains(pushed, "could not be built") || !strings.Contains(pushed, "no-such-package-of-anybody") {
		t.Errorf("of a runtime that cannot be built the pusher is told:\n%s", pushed)
	}

	// Another function is fetched from there, as from any Git host.
	git(t, dir, "revert", "--no-edit", "HEAD")
	git(t, dir, "push")
	secret := strings.ReplaceAll(unique("GIT"), "-", "_")
	c.ok(t, "POST", "/v1/secrets", object{"name": secret, "value": `{"token":"` + c.token + `"}`})
	other := as[function](t, c.ok(t, "POST", "/v1/functions", object{
		"functionName": unique("fetched"), "templateLanguageTag": "Python", "sdkVersion": c.pythonVersion(t),
		"git": object{"url": c.api + "/git/" + id + ".git", "credentials": secret},
	})).FunctionID
	if e := c.execute(t, other, nil); string(e.Result) != "2" {
		t.Errorf("the fetched one ended %+v", e)
	}
	edit(t, dir, fmt.Sprintf(answers, 4))
	c.ok(t, "POST", "/v1/functions/"+other+"/versions", object{"git": object{}})
	if e := c.execute(t, other, nil); string(e.Result) != "4" {
		t.Errorf("fetched again it ended %+v", e)
	}
}

func TestAPackageIsUploadedAndRunAndOurBucketIsNobodys(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	w, err := z.Create("main.py")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("def run(event, context): return 'packed'\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range map[string]string{"functionName": unique("packed"), "templateLanguageTag": "Python", "sdkVersion": c.pythonVersion(t), "entry": "main.run"} {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile("package", "function.zip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	id := as[function](t, c.ok(t, "POST", "/v1/functions", body.String(), "Content-Type", form.FormDataContentType())).FunctionID
	if e := c.execute(t, id, nil); string(e.Result) != `"packed"` {
		t.Errorf("it ended %+v", e)
	}

	// Not even with the key to it.
	u, err := url.Parse(shared.dev.S3)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := u.User.Password()
	secret := strings.ReplaceAll(unique("STORE"), "-", "_")
	c.ok(t, "POST", "/v1/secrets", object{"name": secret, "value": `{"endpoint":"` + u.Scheme + "://" + u.Host + `","accessKey":"` + u.User.Username() + `","secretKey":"` + key + `"}`})
	a := c.send(t, "POST", "/v1/functions/"+id+"/versions", object{"object": object{"bucket": strings.Trim(u.Path, "/"), "key": "x", "credentials": secret}})
	if a.status != 403 || !strings.Contains(string(a.body), "warpket's own") {
		t.Errorf("warpket's own bucket: %d %s", a.status, a.body)
	}
}
