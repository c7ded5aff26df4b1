package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestNumbersThatNoVersionCanHaveAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "numbers")
	w.want(t, 200, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+id+`","version":1}`)
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/v1/functions/ID/versions/N", ""},
		{"GET", "/v1/functions/ID/versions/N/diff/1", ""},
		{"GET", "/v1/functions/ID/versions/1/diff/N", ""},
		{"GET", "/v1/functions/ID/versions/N/archive", ""},
		{"GET", "/v1/functions/ID/versions/N/files/x", ""},
		{"PATCH", "/v1/functions/ID/versions/N", `{"description":"x"}`},
		{"DELETE", "/v1/functions/ID/versions/N", ""},
		{"POST", "/v1/functions/ID/versions/N/deployments", "{}"},
		{"GET", "/v1/functions/ID/workers?version=N", ""},
		{"GET", "/v1/deployments?version=N", ""},
		{"GET", "/v1/executions?version=N", ""},
		{"GET", "/v1/executions?version=in:1,N", ""},
		{"GET", "/v1/aliases?functionId=ID&version=N", ""},
		{"POST", "/v1/aliases", `{"name":"big","functionId":"ID","version":N}`},
		{"POST", "/v1/aliases", `{"name":"big","functionId":"ID","versions":[{"version":N,"weight":1}]}`},
		{"PATCH", "/v1/aliases/prod", `{"version":N}`},
		{"POST", "/v1/webhooks", `{"functionId":"ID","version":N}`},
		{"POST", "/v1/schedules", `{"functionId":"ID","version":N,"pattern":"@daily"}`},
		{"POST", "/v1/executions", `{"functionId":"ID","version":N,"sync":false}`},
	} {
		concrete := strings.NewReplacer("ID", id, "N", "9999999999")
		status, _, answer := w.send(t, r.method, concrete.Replace(r.path), concrete.Replace(r.body))
		if status != http.StatusUnprocessableEntity || !strings.Contains(answer, "expected number <=") && !strings.Contains(answer, "a number from 0 to 2147483647") {
			t.Errorf("%s %s %s: %d %.200s", r.method, r.path, r.body, status, answer)
		}
	}
}
