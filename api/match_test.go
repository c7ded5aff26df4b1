package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

func TestWhatIsNotAsTheCallerHasSeenItIsNotChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"TOKEN","value":"x"}`)
	tests := map[string]struct{ method, path, one, other string }{
		"an environment": {"PUT", "/v1/functions/" + f + "/environment", `{"variables":{"A":"1"}}`, `{"variables":{"A":"2"}}`},
		"a secret":       {"PATCH", "/v1/secrets/TOKEN", `{"value":"y"}`, `{"value":"z"}`},
	}
	for name, tt := range tests {
		head, _ := w.want(t, 200, "GET", tt.path, "")
		seen := head.Get("ETag")
		head, _ = w.want(t, 200, tt.method, tt.path, tt.one, "If-Match", seen)
		now := head.Get("ETag")
		if head, _ = w.want(t, 200, "GET", tt.path, ""); seen == "" || now == seen || head.Get("ETag") != now {
			t.Errorf("%s had the ETag %s, then %s, and has %s", name, seen, now, head.Get("ETag"))
		}
		if _, body := w.want(t, 412, tt.method, tt.path, tt.other, "If-Match", seen); !strings.Contains(body, "its ETag is "+strings.ReplaceAll(now, `"`, `\"`)) {
			t.Errorf("%s: %s", name, body)
		}
		if head, _ = w.want(t, 200, "GET", tt.path, ""); head.Get("ETag") != now {
			t.Errorf("%s was changed all the same", name)
		}
		w.want(t, 200, tt.method, tt.path, tt.other, "If-Match", "*")
	}
}

func TestAnEnvironmentIsTheSameWhenItsFunctionIsCalledOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	head, _ := w.want(t, 200, "GET", path+"/environment", "")
	w.want(t, 200, "PATCH", path, `{"description":"two qubits"}`)
	w.want(t, 200, "PUT", path+"/environment", `{"variables":{"A":"1"}}`, "If-Match", head.Get("ETag"))
}

func TestADeploymentIsScaledAsTheCallerHasSeenIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, body := w.want(t, 202, "POST", "/v1/functions/"+w.function(t, "bell")+"/versions/1/deployments", "")
	d := decode[api.Deployment](t, body)
	path := "/v1/deployments/" + d.ID
	head, _ := w.want(t, 200, "GET", path, "")
	seen, at := head.Get("ETag"), d.UpdatedDate
	w.want(t, 202, "PATCH", path, `{"slots":2}`, "If-Match", seen)
	w.want(t, 202, "PATCH", path, `{"slots":2}`, "If-Match", `"x", *`)
	w.want(t, 202, "PATCH", path, `{"slots":2}`)
	if err := w.store.AdvanceDeployment(t.Context(), warpket.ID(d.ID), warpket.DeploymentPlacing, "looking", time.Now()); err != nil {
		t.Fatal(err)
	}
	if head, _ = w.want(t, http.StatusPreconditionFailed, "PATCH", path, `{"slots":3}`, "If-Match", seen); head.Get("ETag") == seen {
		t.Error("its ETag stays")
	}
	if diff := cmp.Diff([]time.Time{at, {}, {}}, w.scaled); diff != "" { // where it is locked it is checked again
		t.Error(diff)
	}
}
