package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket/api"
)

func TestListsAreNarrowedByNameDescriptionAndDate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	versions := "/v1/functions/" + w.function(t, "bell") + "/versions"
	w.want(t, 200, "PATCH", versions+"/1", `{"description":"the first, of two qubits"}`)
	w.want(t, 200, "POST", versions, `{"description":"later","templateFiles":[{"filename":"handler.py","content":"def handler(event): pass"}]}`)
	for _, name := range []string{"lab-one", "lab-two"} {
		w.want(t, 200, "POST", "/v1/projects", `{"name":"`+name+`"}`)
		w.want(t, 200, "POST", "/v1/projects/default/members", `{"name":"`+name+`","role":"viewer"}`)
		w.want(t, 200, "POST", "/v1/secrets", `{"name":"`+strings.ReplaceAll(name, "-", "_")+`","value":"x"}`)
		w.want(t, 200, "POST", "/v1/tokens", `{"name":"`+name+`","role":"viewer"}`)
	}
	got, want := map[string]int{}, map[string]int{
		versions + "?description=later": 1, versions + "?description=has:qubits": 1, versions + "?description=neq:later": 1, versions + "?description=in:later,none": 1, versions + "?description=none": 0,
		versions + "?createdDate=gt:2026-01-01T00:00:00Z": 2, versions + "?createdDate=lt:2026-01-01T00:00:00Z": 0, versions + "?createdDate=lt:2026-01-01T00:00:00Z&description=later": 0,
	}
	for path, one := range map[string]string{"/v1/projects": "lab-one", "/v1/projects/default/members": "lab-one", "/v1/secrets": "lab_one", "/v1/tokens": "lab-one"} {
		want[path+"?name="+one], want[path+"?name=eq:"+one], want[path+"?name=in:none,"+one], want[path+"?name=has:lab"], want[path+"?name=has:l%25b"] = 1, 1, 1, 2, 0
		if status, _, body := w.send(t, "GET", path+"?name=gt:a", ""); status != 422 || !strings.Contains(body, "eq, neq, in, has") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	want["/v1/tokens?name=has:lab&member=ada"] = 0
	for path := range want {
		_, body := w.want(t, 200, "GET", path, "")
		got[path] = len(decode[api.List[any]](t, body).Items)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
