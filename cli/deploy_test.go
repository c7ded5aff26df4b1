package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

const template = `{"tag":"Qiskit","sdk":"qiskit","sdkVersions":["0.45.3","0.45.2"],"defaultSdkVersion":"0.45.3","description":"A circuit","entry":"handler.handler","targets":["simulator"],` +
	`"files":[{"filename":"handler.py","language":"python","content":"def handler(): pass\n"},{"filename":"lib/gates.py","language":"python","content":"X = 1\n"}]}`

func TestInit(t *testing.T) {
	t.Parallel()
	t.Run("it writes the template and a manifest", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), filepath.Join(t.TempDir(), "bell")
		s.on("GET /v1/templates/{tag}", 200, template)
		if got := s.command(t, "init", "Qiskit", dir); got.code != 0 || !strings.Contains(got.err, "cd "+dir+" && warpket deploy") {
			t.Fatalf("got %+v", got)
		}
		want := map[string]string{
			"handler.py": "def handler(): pass\n", "lib/gates.py": "X = 1\n", "warpket.yaml": "name: bell\ntemplate: Qiskit\nsdkVersion: 0.45.3\n",
		}
		if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("it overwrites nothing and leaves nothing behind", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		s.on("GET /v1/templates/{tag}", 200, template)
		put(t, dir, "lib/gates.py", "mine")
		if got := s.command(t, "init", "Qiskit", dir, "--name", "bell"); got.code != exitRefused || !strings.Contains(got.err, filepath.Join("lib", "gates.py")+" is there already") {
			t.Errorf("got %+v", got)
		}
		if diff := cmp.Diff(map[string]string{"lib/gates.py": "mine"}, contents(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a template cannot write outside of the folder", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		s.on("GET /v1/templates/{tag}", 200, `{"tag":"Bad","defaultSdkVersion":"1","files":[{"filename":"../out.py","content":"x"}]}`)
		if got := s.command(t, "init", "Bad", filepath.Join(dir, "in")); got.code == 0 {
			t.Errorf("got %+v", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "out.py")); err == nil {
			t.Error("out.py was written")
		}
	})
}

// version is a version with files, as the API tells of it.
func version(number int, files map[string]string) string {
	var out []string
	for name, content := range files {
		out = append(out, fmt.Sprintf(`{"id":"id-of-%s","versionId":"v","filename":%q,"key":"p/%s","size":1,"status":"stored"}`, name, name, warpket.SHA256([]byte(content))))
	}
	return fmt.Sprintf(`{"id":"v","version":%d,"inDeployed":false,"createdDate":"2025-01-01T00:00:00Z","description":"","entry":"handler.handler","digest":"","files":[%s]}`, number, strings.Join(out, ","))
}

func TestDeployPublishesOnlyWhatHasChanged(t *testing.T) {
	t.Parallel()
	const (
		publish  = "POST /v1/functions/" + functionID + "/versions "
		deployV1 = "POST /v1/functions/" + functionID + "/versions/1/deployments {\"slots\":1}"
		deployV2 = "POST /v1/functions/" + functionID + "/versions/2/deployments {\"slots\":1}"
	)
	manifest := "name: bell\ntemplate: Qiskit\nsdkVersion: 0.45.3\n"
	tests := map[string]struct {
		newest map[string]string // files of version 1
		local  map[string]string
		want   []string
	}{
		"the same files":      {map[string]string{"handler.py": "a"}, map[string]string{"handler.py": "a"}, []string{deployV1}},
		"a changed file":      {map[string]string{"handler.py": "a", "lib/x.py": "x"}, map[string]string{"handler.py": "b", "lib/x.py": "x"}, []string{publish + `{"templateFiles":[{"content":"b","filename":"handler.py"},{"fileId":"id-of-lib/x.py","filename":"lib/x.py"}]}`, deployV2}},
		"a file more":         {map[string]string{"handler.py": "a"}, map[string]string{"data.bin": "\xff\x00", "handler.py": "a"}, []string{publish + `{"templateFiles":[{"contentBase64":"/wA=","filename":"data.bin"},{"fileId":"id-of-handler.py","filename":"handler.py"}]}`, deployV2}},
		"a file less":         {map[string]string{"handler.py": "a", "old.py": "x"}, map[string]string{"handler.py": "a"}, []string{publish + `{"templateFiles":[{"fileId":"id-of-handler.py","filename":"handler.py"}]}`, deployV2}},
		"what does not count": {map[string]string{"handler.py": "a"}, map[string]string{"handler.py": "a", ".git/config": "x", ".env": "x", "__pycache__/h.pyc": "x", "lib/__pycache__/h": "x"}, []string{deployV1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := newAPI(t), t.TempDir()
			put(t, dir, "warpket.yaml", manifest)
			for name, content := range test.local {
				put(t, dir, name, content)
			}
			s.on("GET /v1/functions", 200, list(bell))
			s.on("GET /v1/functions/{id}/versions", 200, list(version(1, test.newest)))
			s.on("POST /v1/functions/{id}/versions", 200, `{"timestamp":"2025-01-01T00:00:00Z","route":"","data":`+version(2, nil)+`}`)
			s.on("GET /v1/deployments", 200, list())
			s.on("POST /v1/functions/{id}/versions/{version}/deployments", 200, deployment(deploymentID, 1, "ready", ""))
			if got := s.command(t, "deploy", dir); got.code != 0 || got.out != "" {
				t.Fatalf("got %+v", got)
			}
			if diff := cmp.Diff(test.want, s.requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// deployable is a server and a folder whose files are version 1.
func deployable(t *testing.T) (*api, string) {
	t.Helper()
	s, dir := newAPI(t), t.TempDir()
	put(t, dir, "warpket.yaml", "name: bell\ntemplate: Qiskit\nsdkVersion: 0.45.3\n")
	put(t, dir, "handler.py", "a")
	s.on("GET /v1/functions/{id}/versions", 200, list(version(1, map[string]string{"handler.py": "a"})))
	return s, dir
}

func TestDeployCreatesAFunctionThatIsNotThere(t *testing.T) {
	t.Parallel()
	s, dir := deployable(t)
	s.on("GET /v1/functions", 200, list())
	s.on("POST /v1/functions", 200, `{"functionId":"`+functionID+`","functionName":"bell","templateLanguageTag":"Qiskit","sdk":"qiskit","sdkVersion":"0.45.3","templateFiles":[],"functionVersion":`+version(1, nil)+`}`)
	s.on("GET /v1/deployments", 200, list())
	s.on("POST /v1/functions/{id}/versions/1/deployments", 202, deployment(deploymentID, 1, "pending", ""))
	s.on("GET /v1/deployments/{id}", 200, deployment(deploymentID, 1, "building", "local: installing qiskit 0.45.3"), deployment(deploymentID, 1, "ready", ""))
	got := s.command(t, "deploy", dir)
	if got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	for _, part := range []string{"created function bell: qiskit 0.45.3", "building: local: installing qiskit 0.45.3", "version 1 is ready: 1 slot on local", "http://temporal/" + deploymentID, "next: warpket run bell"} {
		if !strings.Contains(got.err, part) {
			t.Errorf("without %q:\n%s", part, got.err)
		}
	}
	if asked := s.requests(); asked[0] != `POST /v1/functions {"functionName":"bell","sdkVersion":"0.45.3","templateLanguageTag":"Qiskit"}` {
		t.Errorf("asked %q", asked)
	}
}

func TestDeployDoesNothingWhenTheVersionIsLive(t *testing.T) {
	t.Parallel()
	s, dir := deployable(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/deployments", 200, list(deployment(deploymentID, 1, "ready", "")))
	got := s.command(t, "deploy", dir)
	if got.code != 0 || !strings.Contains(got.err, "version 1 is live already") || len(s.requests()) > 0 {
		t.Errorf("got %+v, asked %q", got, s.requests())
	}
}

func TestDeployScalesALiveVersionWhenSlotsAreAskedFor(t *testing.T) {
	t.Parallel()
	s, dir := deployable(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/deployments", 200, list(deployment(deploymentID, 1, "ready", "")))
	s.on("GET /v1/deployments/{id}", 200, deployment(deploymentID, 1, "ready", "2 of 2 slots serve"))
	s.on("PATCH /v1/deployments/{id}", 200, deployment(deploymentID, 1, "ready", ""))
	got := s.command(t, "deploy", dir, "--slots", "2")
	if got.code != 0 || !strings.Contains(got.err, "2 of 2 slots serve") {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"PATCH /v1/deployments/" + deploymentID + ` {"slots":2}`}, s.requests()); diff != "" {
		t.Error(diff)
	}
}

func TestDeployWaitsForADeploymentThatDoesNotServeYet(t *testing.T) {
	t.Parallel()
	s, dir := deployable(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/deployments", 200, list(strings.Replace(deployment(deploymentID, 1, "degraded", ""), `"ready":1`, `"ready":0`, 1)))
	s.on("GET /v1/deployments/{id}", 200, deployment(deploymentID, 1, "ready", ""))
	got := s.command(t, "deploy", dir)
	if got.code != 0 || !strings.Contains(got.err, "version 1 is ready") || len(s.requests()) > 0 {
		t.Errorf("got %+v, asked %q", got, s.requests())
	}
}

func TestDeployDetachesOlderDeployments(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"unless they are to be kept": true, "when the new one is ready": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := deployable(t)
			put(t, dir, "handler.py", "b")
			s.on("GET /v1/functions", 200, list(bell))
			s.on("POST /v1/functions/{id}/versions", 200, `{"timestamp":"2025-01-01T00:00:00Z","route":"","data":`+version(2, nil)+`}`)
			s.on("GET /v1/deployments", 200, list(deployment("failed", 1, "failed", ""), deployment("old", 1, "ready", ""), deployment("gone", 1, "detached", "")))
			s.on("POST /v1/functions/{id}/versions/2/deployments", 200, deployment(deploymentID, 2, "ready", ""))
			s.on("POST /v1/deployments/{id}/detach", 202, deployment("old", 1, "ready", ""))
			args := []string{"deploy", dir}
			if keep {
				args = append(args, "--keep-old")
			}
			if got := s.command(t, args...); got.code != 0 {
				t.Fatalf("got %+v", got)
			}
			asked := s.requests()
			detached := asked[len(asked)-1] == "POST /v1/deployments/old/detach"
			if detached == keep || len(asked) > 3 {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func TestAnInterruptLeavesTheDeploymentToTheServer(t *testing.T) {
	t.Parallel()
	s, dir := deployable(t)
	ctx, interrupt := context.WithCancel(t.Context())
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/deployments", 200, list())
	s.on("POST /v1/functions/{id}/versions/1/deployments", 202, deployment(deploymentID, 1, "pending", ""))
	s.mux.HandleFunc("GET /v1/deployments/{id}", func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done() // held until the client goes
	})
	got := command(ctx, Env{API: s.URL, Token: "wk_1_2"}, "", "deploy", dir)
	if got.code != exitCancelled || !strings.Contains(got.err, "the deployment goes on") || len(s.requests()) != 1 {
		t.Errorf("got %+v, asked %q", got, s.requests())
	}
}

func TestTheDemoShowsTheMainJob(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list())
	s.on("POST /v1/functions", 200, `{"functionId":"`+functionID+`","functionName":"bell","templateLanguageTag":"Qiskit","sdk":"qiskit","sdkVersion":"0.45.3","templateFiles":[],"functionVersion":`+version(1, nil)+`}`)
	s.on("GET /v1/functions/{id}/versions", 200, list(version(1, map[string]string{"handler.py": "a"})))
	s.on("GET /v1/deployments", 200, list())
	s.on("POST /v1/functions/{id}/versions/1/deployments", 202, deployment(deploymentID, 1, "building", "local: installing qiskit 0.45.3"))
	s.on("GET /v1/deployments/{id}", 200, deployment(deploymentID, 1, "ready", ""))
	s.on("POST /v1/executions", 200, execution("succeeded", `,"result":{"counts":{"00":500,"11":524}},"timings":{"queuedMs":1,"placedMs":1,"startedMs":1,"ranMs":2,"recordedMs":1,"totalMs":6}`))
	var out bytes.Buffer
	if err := Demo(t.Context(), &out, false, s.URL, "wk_1_2", DemoInfo{TokenFile: "data/dev.json", TemporalUI: "http://temporal", Data: "data"}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"created function bell: qiskit 0.45.3", "handler.py  1 B  stored at p/", "local: installing qiskit 0.45.3", "deployed version 1: 1 slot on local",
		"executed with 1024 shots", "524  51.2 %", "until it was sent to its node", s.URL + "/docs", "http://temporal/" + deploymentID, "data/dev.json", "warpket login --dev data", `"functionId": "` + functionID + `"`,
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("without %q", part)
		}
	}
	if strings.Contains(out.String(), "\x1b") || strings.Contains(out.String(), "wk_1_2") {
		t.Error("it has colours or the token")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestDeployRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		manifest, says string
		code           int
	}{
		"another SDK version":     {"name: bell\ntemplate: Qiskit\nsdkVersion: 1.0.0\n", "sdkVersion of function bell is 0.45.3", exitRefused},
		"an unknown field":        {"name: bell\ntemplate: Qiskit\nversion: 1\n", "version", exitRefused},
		"no template":             {"name: bell\n", "names no template", exitRefused},
		"a name that is not one":  {"name: Bell!\ntemplate: Qiskit\n", "cannot name a function", exitRefused},
		"a deployment that fails": {"name: bell\ntemplate: Qiskit\n", "the deployment of version 1 failed: no wheels for qiskit", exitFailed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := deployable(t)
			put(t, dir, "warpket.yaml", test.manifest)
			s.on("GET /v1/functions", 200, list(bell))
			s.on("GET /v1/deployments", 200, list())
			s.on("POST /v1/functions/{id}/versions/1/deployments", 200, deployment(deploymentID, 1, "failed", "no wheels for qiskit"))
			if got := s.command(t, "deploy", dir); got.code != test.code || !strings.Contains(got.err, test.says) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(file)
		name, _ := filepath.Rel(dir, file)
		out[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
