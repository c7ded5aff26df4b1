package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/warpket/warpket/api"
)

// publish publishes a version whose requirements.txt has this text, or none.
func (w *world) publish(t *testing.T, function, requirements string) (int, string) {
	t.Helper()
	files := `{"filename":"handler.py","content":"def handler(event, context): return 1"}`
	if requirements != "" {
		quoted, err := json.Marshal(requirements)
		if err != nil {
			t.Fatal(err)
		}
		files += `,{"filename":"requirements.txt","content":` + string(quoted) + `}`
	}
	status, _, body := w.send(t, "POST", "/v1/functions/"+function+"/versions", `{"templateFiles":[`+files+`]}`)
	return status, body
}

func TestRequirementsMakeARuntimeOfTheProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	version := func(requirements string) api.FunctionVersion {
		t.Helper()
		status, body := w.publish(t, f, requirements)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		return decode[api.CreatedVersion](t, body).Data
	}
	plain, one, same, without := version(""), version("six==1.16.0\n"), version("# again\nsix==1.16.0"), version("")
	if plain.Requirements != "" || one.Requirements == "" || one.RuntimeID == plain.RuntimeID || one.Digest == plain.Digest {
		t.Errorf("with requirements it is %+v, without %+v", one, plain)
	}
	if same.RuntimeID != one.RuntimeID || without.RuntimeID != plain.RuntimeID {
		t.Errorf("runtimes are %s, %s and %s, %s", one.RuntimeID, same.RuntimeID, plain.RuntimeID, without.RuntimeID)
	}
	_, _, body := w.send(t, "GET", "/v1/runtimes/"+one.RuntimeID, "")
	if r := decode[api.Runtime](t, body); r.ProjectID == "" || len(r.Requirements) != 1 {
		t.Errorf("the runtime is %s", body)
	}
	if status, _, body := w.send(t, "GET", "/v1/functions/"+f+"/versions/3/lock", ""); status != http.StatusNotFound || !strings.Contains(body, "not locked yet") {
		t.Errorf("its lock: %d %s", status, body)
	}

	// A file that is taken over by its ID counts as well.
	var id string
	for _, file := range one.Files {
		if file.Filename == "requirements.txt" {
			id = file.ID
		}
	}
	status, _, body := w.send(t, "POST", "/v1/functions/"+f+"/versions", `{"templateFiles":[{"filename":"handler.py","content":"x=1"},{"filename":"requirements.txt","fileId":"`+id+`"}]}`)
	if status != http.StatusOK || decode[api.CreatedVersion](t, body).Data.RuntimeID != one.RuntimeID {
		t.Errorf("taken over: %d %s", status, body)
	}

	// Another project sees nothing of it.
	_, _, body = w.send(t, "POST", "/v1/projects", `{"name":"two"}`)
	other := decode[api.Project](t, body).ID
	if status, _, _ := w.send(t, "GET", "/v1/runtimes/"+one.RuntimeID, "", "X-Project-Id", other); status != http.StatusNotFound {
		t.Errorf("another project: %d", status)
	}
	if _, _, body := w.send(t, "GET", "/v1/runtimes", "", "X-Project-Id", other); strings.Contains(body, one.RuntimeID) {
		t.Errorf("another project lists it: %s", body)
	}
}

func TestRequirementsThatAreNoPackagesAreRefusedWithTheirLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	for _, line := range []string{"-r other.txt", "--index-url https://evil.invalid", "six @ https://evil.invalid/six.whl", "git+https://evil.invalid/six", "./six"} {
		status, body := w.publish(t, f, "scipy\n"+line+"\n")
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, "line 2") || !strings.Contains(body, "templateFiles[1].content") {
			t.Errorf("%s: %d %s", line, status, body)
		}
	}
	if _, _, body := w.send(t, "GET", "/v1/functions/"+f+"/versions", ""); strings.Contains(body, "requirements.txt") {
		t.Errorf("one was published: %s", body)
	}
}
