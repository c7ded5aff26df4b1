package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/secrets"
)

// tokenOf makes a token of the default project.
func (w *world) tokenOf(t *testing.T, role string) string {
	t.Helper()
	status, _, body := w.send(t, "POST", "/v1/tokens", `{"role":"`+role+`","name":"`+role+`"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return decode[struct{ Token string }](t, body).Token
}

func TestTheValueOfASecretIsInNoAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	const canary = "canary-4711"
	requests := []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/secrets", `{"name":"TOKEN","value":"` + canary + `"}`, 200},
		{"POST", "/v1/secrets", `{"name":"TOKEN","value":"` + canary + `"}`, 409},
		{"POST", "/v1/secrets", `{"name":"no-name","value":"` + canary + `"}`, 422},
		{"POST", "/v1/secrets", `{"name":"NUL","value":"` + canary + `\u0000"}`, 422},
		{"POST", "/v1/secrets", `{"name":"LONG","value":"` + canary + strings.Repeat("x", 64<<10) + `"}`, 422},
		{"POST", "/v1/secrets", `{"name":"WIDE","value":"` + canary + strings.Repeat("é", 40<<10) + `"}`, 413},
		{"POST", "/v1/secrets", `{"name":"KIND","value":["` + canary + `"]}`, 422},
		{"POST", "/v1/secrets", `{"name":"MORE","value":"x","` + canary + `":"` + canary + `"}`, 422},
		{"POST", "/v1/secrets", `{"name":"BROKEN","value":"` + canary, 400},
		{"GET", "/v1/secrets", "", 200},
		{"GET", "/v1/secrets/TOKEN", "", 200},
		{"PATCH", "/v1/secrets/TOKEN", `{"value":"` + canary + `-2"}`, 200},
		{"PATCH", "/v1/secrets/OTHER", `{"value":"` + canary + `"}`, 404},
		{"PUT", "/v1/functions/" + f + "/environment", `{"variables":{"N":"1"},"secrets":{"A":"TOKEN"}}`, 200},
		{"GET", "/v1/functions/" + f + "/environment", "", 200},
		{"GET", "/v1/functions/" + f, "", 200},
		{"DELETE", "/v1/secrets/TOKEN", "", 409},
		{"PUT", "/v1/functions/" + f + "/environment", `{}`, 200},
		{"DELETE", "/v1/secrets/TOKEN", "", 204},
		{"GET", "/v1/secrets/TOKEN", "", 404},
	}
	for _, r := range requests {
		status, header, body := w.send(t, r.method, r.path, r.body)
		if status != r.want {
			t.Errorf("%s %s %.80s: %d %s, want %d", r.method, r.path, r.body, status, body, r.want)
		}
		// What the caller has misspelt as the name of a field is told.
		if strings.Contains(strings.ReplaceAll(body, `body.`+canary, ""), canary) {
			t.Errorf("%s %s answers the value: %v %s", r.method, r.path, header, body)
		}
	}
}

func TestASecretTellsWhichFunctionsUseIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.send(t, "POST", "/v1/secrets", `{"name":"TOKEN","value":"x"}`)
	set := `{"variables":{"N":"1"},"secrets":{"A":"TOKEN"}}`
	_, _, body := w.send(t, "PUT", "/v1/functions/"+f+"/environment", set)
	if body != set+"\n" {
		t.Errorf("setting it answers %s", body)
	}
	_, _, body = w.send(t, "GET", "/v1/secrets/TOKEN", "")
	if s := decode[api.Secret](t, body); len(s.UsedBy) != 1 || s.UsedBy[0] != "bell" {
		t.Errorf("it is %s", body)
	}
	if status, _, body := w.send(t, "DELETE", "/v1/secrets/TOKEN", ""); status != http.StatusConflict || !strings.Contains(body, "bell") {
		t.Errorf("deleting it: %d %s", status, body)
	}
}

func TestSecretsAreForAdminsAndTheirNamesForMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.send(t, "POST", "/v1/secrets", `{"name":"TOKEN","value":"x"}`)
	may := map[string][]int{ // create, read, change, delete
		"viewer": {403, 403, 403, 403},
		"member": {403, 200, 403, 403},
		"admin":  {200, 200, 200, 204},
	}
	for role, want := range may {
		token := w.tokenOf(t, role)
		for i, r := range [][3]string{
			{"POST", "/v1/secrets", `{"name":"OTHER","value":"x"}`},
			{"GET", "/v1/secrets/TOKEN", ""},
			{"PATCH", "/v1/secrets/TOKEN", `{"value":"y"}`},
			{"DELETE", "/v1/secrets/OTHER", ""},
		} {
			if status, _, body := w.send(t, r[0], r[1], r[2], "Authorization", "Bearer "+token); status != want[i] {
				t.Errorf("as %s %s %s: %d %s, want %d", role, r[0], r[1], status, body, want[i])
			}
		}
	}
}

func TestACreatedSecretIsRepeatedByItsIdempotencyKeyOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := func(value string) (int, http.Header) {
		status, header, _ := w.send(t, "POST", "/v1/secrets", `{"name":"TOKEN","value":"`+value+`"}`, "Idempotency-Key", "k")
		return status, header
	}
	if status, _ := post("x"); status != http.StatusOK {
		t.Errorf("first: %d", status)
	}
	if status, header := post("x"); status != http.StatusOK || header.Get("Idempotency-Replayed") == "" {
		t.Errorf("again: %d %v", status, header)
	}
	if status, _ := post("y"); status != http.StatusConflict {
		t.Errorf("with another value: %d", status)
	}
}

func TestWithoutAKeySecretsAnswerWhatToSet(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, secrets.Keyring{})
	f := w.function(t, "bell")
	for _, r := range [][3]string{
		{"GET", "/v1/secrets", ""},
		{"POST", "/v1/secrets", `{"name":"TOKEN","value":"x"}`},
		{"GET", "/v1/secrets/TOKEN", ""},
		{"PATCH", "/v1/secrets/TOKEN", `{"value":"x"}`},
		{"DELETE", "/v1/secrets/TOKEN", ""},
		{"PUT", "/v1/functions/" + f + "/environment", `{"secrets":{"A":"TOKEN"}}`},
	} {
		if status, _, body := w.send(t, r[0], r[1], r[2]); status != http.StatusServiceUnavailable || !strings.Contains(body, "WARPKET_SECRET_KEY") {
			t.Errorf("%s %s: %d %s", r[0], r[1], status, body)
		}
	}
	if status, _, body := w.send(t, "PUT", "/v1/functions/"+f+"/environment", `{"variables":{"A":"1"}}`); status != http.StatusOK {
		t.Errorf("variables need no key: %d %s", status, body)
	}
}

func TestAnEnvironmentThatCannotBeIsRefusedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	for body, says := range map[string]string{
		`{"variables":{"PATH":"/x","LD_PRELOAD":"x"}}`: "LD_PRELOAD, PATH",
		`{"variables":{"a-b":"x"}}`:                    "a-b",
		`{"secrets":{"A":"NONE"}}`:                     "POST /v1/secrets",
		`{"variables":{"A":1}}`:                        "variables.A",
	} {
		if status, _, answer := w.send(t, "PUT", "/v1/functions/"+f+"/environment", body); status != http.StatusUnprocessableEntity || !strings.Contains(answer, says) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if status, _, _ := w.send(t, "PUT", "/v1/functions/0192f000-0000-7000-8000-000000000001/environment", `{}`); status != http.StatusNotFound {
		t.Errorf("of no function: %d", status)
	}
}

func TestOnlyAnOperatorLetsAProjectReachTheNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	set := func() (int, string) {
		status, _, body := w.send(t, "PATCH", "/v1/functions/"+f, `{"network":"egress"}`)
		return status, body
	}
	if status, body := set(); status != http.StatusForbidden || !strings.Contains(body, "allowEgress") {
		t.Errorf("before it may: %d %s", status, body)
	}
	allow := `{"allowEgress":true}`
	if status, _, _ := w.send(t, "PATCH", "/v1/projects/default", allow, "Authorization", "Bearer "+w.tokenOf(t, "admin")); status != http.StatusForbidden {
		t.Errorf("an admin allows it: %d", status)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/projects/default", allow); status != http.StatusOK || !decode[api.Project](t, body).AllowEgress {
		t.Errorf("an operator allows it: %d %s", status, body)
	}
	if status, body := set(); status != http.StatusOK || decode[api.Function](t, body).Network != "egress" {
		t.Errorf("then: %d %s", status, body)
	}
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"reaching","templateLanguageTag":"Python","network":"egress"}`)
	if status != http.StatusOK {
		t.Errorf("creating one that reaches out: %d %s", status, body)
	}
}
