package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// newToken asks for a token and gives it as a header.
func (w *world) newToken(t *testing.T, body string) (token api.Token, header string) {
	t.Helper()
	status, _, answer := w.send(t, "POST", "/v1/tokens", body)
	token = decode[api.Token](t, answer)
	if status != http.StatusOK || token.Token == "" {
		t.Fatalf("%s: %d %s", body, status, answer)
	}
	return token, "Bearer " + token.Token
}

// want sends a request and checks the status of the answer.
func (w *world) want(t *testing.T, want int, method, path, body string, header ...string) (http.Header, string) {
	t.Helper()
	status, head, answer := w.send(t, method, path, body, header...)
	if status != want {
		t.Errorf("%s %s %s: %d %.300s, want %d", method, path, body, status, answer, want)
	}
	return head, answer
}

func TestEveryOperationSaysHowItReachesFunctions(t *testing.T) {
	t.Parallel()
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	for path, item := range s.OpenAPI().Paths {
		for _, op := range operations(item) {
			scope, _ := s.Scope(op.OperationID)
			if scope != api.Public && s.Reach(op.OperationID) == "" {
				t.Errorf("%s does not say how it reaches functions, so tokens for some functions are refused: give register one of the reaches in reach.go, or wholeProject if that is right", op.OperationID)
			}
			if s.Reach(op.OperationID) == "path" && !strings.Contains(path, "{functionId}") {
				t.Errorf("%s has no functionId in its path %s", op.OperationID, path)
			}
		}
	}
}

func TestATokenForAFunctionReachesNothingOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine, other := w.function(t, "mine"), w.function(t, "other")
	_, header := w.newToken(t, `{"role":"member","name":"one-function","functions":["`+mine+`"]}`)
	_, answer := w.want(t, 202, "POST", "/v1/executions", `{"functionId":"`+other+`","sync":false}`)
	execution := decode[api.Execution](t, answer).ID
	_, answer = w.want(t, 202, "POST", "/v1/functions/"+other+"/versions/1/deployments", ``)
	deployment := decode[api.Deployment](t, answer).ID
	w.want(t, 200, "POST", "/v1/aliases", `{"name":"theirs","functionId":"`+other+`","version":1}`)
	_, answer = w.want(t, 200, "POST", "/v1/webhooks", `{"alias":"theirs"}`)
	webhook := decode[api.Webhook](t, answer).ID
	_, answer = w.want(t, 200, "POST", "/v1/schedules", `{"alias":"theirs","pattern":"@yearly"}`)
	schedule := decode[api.Schedule](t, answer).ID
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	bodies := map[string]string{ // so that what finds out by itself comes to that
		"create-execution": `{"functionId":"` + other + `"}`,
		"scale-deployment": `{"slots":1}`,
		"create-alias":     `{"name":"new","functionId":"` + other + `","version":1}`,
		"update-alias":     `{"description":"new"}`,
		"create-webhook":   `{"functionId":"` + other + `"}`,
		"update-webhook":   `{"description":"new"}`,
		"create-schedule":  `{"functionId":"` + other + `","pattern":"@yearly"}`,
		"update-schedule":  `{"name":"new"}`,
	}
	checked := 0
	for path, item := range s.OpenAPI().Paths {
		for _, op := range operations(item) {
			if scope, _ := s.Scope(op.OperationID); scope == api.Public {
				continue
			}
			id := execution
			for part, its := range map[string]string{"/deployments": deployment, "/webhooks": webhook, "/schedules": schedule} {
				if strings.Contains(path, part) {
					id = its
				}
			}
			concrete := strings.NewReplacer("{functionId}", other, "{version}", "1", "{path}", "handler.py", "{id}", id, "{tag}", "Python", "{name}", "theirs").Replace(path)
			body := bodies[op.OperationID]
			status, _, answer := w.send(t, op.Method, concrete, body, "Authorization", header)
			switch reach := s.Reach(op.OperationID); reach {
			case "path", "loading":
				if status != http.StatusNotFound {
					t.Errorf("%s of another function: %d %.200s", op.OperationID, status, answer)
				}
			case "filter":
				if status != http.StatusOK || strings.Contains(answer, other) {
					t.Errorf("%s tells of another function: %d %.200s", op.OperationID, status, answer)
				}
			case "none":
				if status != http.StatusOK {
					t.Errorf("%s: %d %.200s", op.OperationID, status, answer)
				}
			default:
				if status != http.StatusForbidden {
					t.Errorf("%s, which is about more than one function: %d %.200s", op.OperationID, status, answer)
				}
			}
			// The way round by a key for repetitions is no other.
			if op.Method == http.MethodPost {
				if status, _, answer := w.send(t, op.Method, concrete, body, "Authorization", header, "Idempotency-Key", op.OperationID); status != http.StatusForbidden && status != http.StatusNotFound {
					t.Errorf("%s with a key: %d %.200s", op.OperationID, status, answer)
				}
			}
			checked++
		}
	}
	if checked < 40 {
		t.Errorf("only %d operations were tried", checked)
	}
	if e, err := w.store.ExecutionByID(t.Context(), warpket.ID(execution)); err != nil || e.CancelAsked {
		t.Errorf("its execution is %+v (%v)", e, err)
	}

	_, answer = w.want(t, 202, "POST", "/v1/executions", `{"functionId":"`+mine+`","sync":false}`, "Authorization", header)
	own := decode[api.Execution](t, answer)
	w.want(t, 200, "GET", "/v1/executions/"+own.ID, "", "Authorization", header)
	_, answer = w.want(t, 200, "GET", "/v1/executions", "", "Authorization", header)
	if list := decode[api.List[api.Execution]](t, answer).Items; len(list) != 1 || list[0].ID != own.ID {
		t.Errorf("it lists %s", answer)
	}
	_, answer = w.want(t, 200, "GET", "/v1/functions", "", "Authorization", header)
	if list := decode[api.List[api.Function]](t, answer).Items; len(list) != 1 || list[0].FunctionID != mine {
		t.Errorf("it lists %s", answer)
	}
	w.want(t, 200, "POST", "/v1/functions/"+mine+"/versions", `{"templateFiles":[{"filename":"handler.py","content":"def handler(): pass"}]}`, "Authorization", header)
	// Its code would tell it any secret that it could name.
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"KEY","value":"v"}`)
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"OTHER","value":"v"}`)
	w.want(t, 200, "PUT", "/v1/functions/"+mine+"/environment", `{"secrets":{"A":"KEY"}}`)
	w.want(t, 200, "PUT", "/v1/functions/"+mine+"/environment", `{"secrets":{"B":"KEY"},"variables":{"C":"d"}}`, "Authorization", header)
	w.want(t, 403, "PUT", "/v1/functions/"+mine+"/environment", `{"secrets":{"A":"OTHER"}}`, "Authorization", header)
	w.want(t, 403, "PATCH", "/v1/functions/"+mine, `{"credentials":"OTHER"}`, "Authorization", header)
}

func TestTokensExpireAndSayWhenTheyWereUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bad := range []string{
		`{"role":"member","name":"x1","expiresDate":"2020-01-01T00:00:00Z"}`,
		`{"role":"member","name":"x2","functions":[]}`,
		`{"role":"member","name":"x3","functions":["no"]}`,
		`{"role":"admin","name":"x4","functions":["` + w.function(t, "f1") + `"]}`,
		`{"role":"viewer","name":"x5","member":"nobody"}`,
		`{"role":"operator","name":"x6"}`,
	} {
		w.want(t, 422, "POST", "/v1/tokens", bad)
	}
	expires := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	token, header := w.newToken(t, `{"role":"viewer","name":"for-a-while","description":"CI","expiresDate":"`+expires.Format(time.RFC3339)+`"}`)
	if token.ExpiresDate == nil || !token.ExpiresDate.Equal(expires) || token.Description != "CI" || token.LastUsedDate != nil {
		t.Errorf("answered %+v", token)
	}
	w.want(t, 200, "GET", "/v1/functions", "", "Authorization", header)
	for token.LastUsedDate == nil && t.Context().Err() == nil { // it is written beside the request
		_, answer := w.want(t, 200, "GET", "/v1/tokens/"+token.ID, "")
		token = decode[api.Token](t, answer)
	}
	// The same token, an hour after its end.
	w.ahead.Store(int64(3 * time.Hour))
	w.want(t, 401, "GET", "/v1/functions", "", "Authorization", header)
	w.want(t, 404, "GET", "/v1/tokens/"+string(warpket.NewID(time.Now())), "")
}

func TestMembersHaveTokensThatEndWithThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const members = "/v1/projects/default/members"
	head, answer := w.want(t, 200, "POST", members, `{"name":"ada","email":"ada@example.org","role":"member"}`)
	if m := decode[api.Member](t, answer); m.Email != "ada@example.org" || head.Get("ETag") == "" {
		t.Errorf("answered %v %s", head, answer)
	}
	w.want(t, 409, "POST", members, `{"name":"ada","role":"viewer"}`)
	for _, bad := range []string{`{"name":"Ada","role":"viewer"}`, `{"name":"bob","role":"operator"}`, `{"name":"bob","role":"viewer","email":"Bob <bob@example.org>"}`} {
		w.want(t, 422, "POST", members, bad)
	}
	w.want(t, 422, "POST", "/v1/tokens", `{"role":"admin","name":"more","member":"ada"}`)
	_, header := w.newToken(t, `{"role":"member","name":"laptop","member":"ada"}`)
	w.newToken(t, `{"role":"member","name":"service"}`)
	_, answer = w.want(t, 200, "GET", "/v1/tokens?member=ada", "")
	if list := decode[api.List[api.Token]](t, answer).Items; len(list) != 1 || list[0].Name != "laptop" || list[0].Member != "ada" {
		t.Errorf("her tokens are %s", answer)
	}

	create := func(name string) string { return `{"functionName":"` + name + `","templateLanguageTag":"Python"}` }
	w.want(t, 200, "POST", "/v1/functions", create("hers"), "Authorization", header)
	w.want(t, 403, "GET", members, "", "Authorization", header)
	stale := head.Get("ETag")
	head, _ = w.want(t, 200, "PATCH", members+"/ada", `{"role":"viewer"}`, "If-Match", stale)
	w.want(t, 403, "POST", "/v1/functions", create("more"), "Authorization", header)
	w.want(t, 200, "GET", "/v1/functions", "", "Authorization", header)
	w.want(t, 412, "PATCH", members+"/ada", `{"role":"admin"}`, "If-Match", stale)
	w.want(t, 412, "DELETE", members+"/ada", "", "If-Match", stale)
	w.want(t, 204, "DELETE", members+"/ada", "", "If-Match", head.Get("ETag"))
	w.want(t, 401, "GET", "/v1/functions", "", "Authorization", header)
	w.want(t, 404, "GET", members+"/ada", "")

	// An admin sees to the own project, and to no other.
	_, answer = w.want(t, 200, "POST", "/v1/projects", `{"name":"elsewhere"}`)
	elsewhere := decode[api.Project](t, answer).ID
	_, admin := w.newToken(t, `{"role":"admin","name":"admin"}`)
	w.want(t, 200, "GET", members, "", "Authorization", admin)
	for _, path := range []string{"", "/members", "/quotas"} {
		w.want(t, 404, "GET", "/v1/projects/"+elsewhere+path, "", "Authorization", admin)
	}
	w.want(t, 404, "POST", "/v1/projects/elsewhere/members", `{"name":"eve","role":"admin"}`, "Authorization", admin)
	w.want(t, 404, "POST", "/v1/tokens", `{"role":"admin","name":"eve","projectId":"elsewhere"}`, "Authorization", admin)
	w.want(t, 404, "GET", "/v1/audit?projectId=elsewhere", "", "Authorization", admin)
	w.want(t, 404, "GET", "/v1/usage?projectId="+elsewhere, "", "Authorization", admin)
}

func TestAQuotaIsSetByAnOperatorAndHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, admin := w.newToken(t, `{"role":"admin","name":"admin"}`)
	w.function(t, "there")
	head, _ := w.want(t, 200, "GET", "/v1/projects/default/quotas", "")
	w.want(t, 403, "PUT", "/v1/projects/default/quotas", `{"functions":9}`, "Authorization", admin)
	w.want(t, 422, "PUT", "/v1/projects/default/quotas", `{"functions":-1}`)
	_, answer := w.want(t, 200, "PUT", "/v1/projects/default/quotas", `{"functions":1,"storage":1000000}`, "If-Match", head.Get("ETag"))
	q := decode[api.Quota](t, answer)
	if *q.Limits.Functions != 1 || *q.Used.Functions != 1 || q.Limits.Slots != nil || *q.Used.Storage == 0 {
		t.Errorf("answered %s", answer)
	}
	w.want(t, 412, "PUT", "/v1/projects/default/quotas", `{}`, "If-Match", head.Get("ETag"))
	head, answer = w.want(t, 429, "POST", "/v1/functions", `{"functionName":"more","templateLanguageTag":"Python"}`)
	if p := decode[api.Problem](t, answer); p.Code != "over_quota" || head.Get("Retry-After") != "60" || !strings.Contains(p.Detail, "1 functions and has 1: delete one") {
		t.Errorf("answered %v %s", head, answer)
	}
	w.want(t, 200, "PUT", "/v1/quotas/default", `{"slots":7}`)
	_, answer = w.want(t, 200, "GET", "/v1/quotas", "", "Authorization", admin)
	if q = decode[api.Quota](t, answer); *q.Limits.Slots != 7 || q.Own.Slots != nil {
		t.Errorf("answered %s", answer)
	}
	w.want(t, 200, "GET", "/v1/usage", "", "Authorization", admin)
	w.want(t, 200, "GET", "/v1/usage?by=function", "")
	w.want(t, 422, "GET", "/v1/usage?since=2020-01-01T00:00:00Z", "")
	w.want(t, 422, "GET", "/v1/usage?since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "")
}

func TestTheAuditTellsWhoDidWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(t, 200, "POST", "/v1/projects/default/members", `{"name":"ada","role":"viewer"}`)
	token, viewer := w.newToken(t, `{"role":"viewer","name":"hers","member":"ada"}`)
	id := w.function(t, "audited")
	create := `{"functionName":"more","templateLanguageTag":"Python"}`
	w.want(t, 403, "POST", "/v1/functions", create, "Authorization", viewer)
	w.want(t, 403, "POST", "/v1/functions", create, "Authorization", viewer, "Idempotency-Key", "k")
	w.want(t, 422, "PATCH", "/v1/functions/"+id, `{"retries":11}`, "User-Agent", "test\tagent", "X-Forwarded-For", "203.0.113.7")
	w.want(t, 401, "DELETE", "/v1/functions/"+id, "", "Authorization", "Bearer wk_wrong")
	w.want(t, 202, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
	w.want(t, 404, "DELETE", "/v1/functions/%00"+strings.Repeat("x", 50), "")
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"KEY","value":"not to be told"}`)

	type entry struct{ operation, subject, outcome, member string }
	list := func(query, header string) (got []entry) {
		t.Helper()
		_, answer := w.want(t, 200, "GET", "/v1/audit"+query, "", "Authorization", header)
		if strings.Contains(answer, "not to be told") || strings.Contains(answer, "wk_") {
			t.Errorf("it tells secrets: %s", answer)
		}
		for _, a := range decode[api.List[api.Act]](t, answer).Items {
			if a.Address != "127.0.0.1" || a.TokenID == "" {
				t.Errorf("%+v", a)
			}
			got = append(got, entry{a.Operation, a.Subject, a.Outcome, a.Member})
		}
		return got
	}
	operator := "Bearer " + w.token
	all := list("", operator)
	for i := range all {
		if all[i].operation == "create-function" && all[i].outcome == "denied" || strings.HasPrefix(all[i].operation, "create-") && all[i].subject != id {
			all[i].subject = "" // a new ID
		}
	}
	want := []entry{
		{"create-secret", "", "succeeded", ""},
		{"delete-function", strings.Repeat("x", 50), "refused", ""},
		{"update-function", id, "refused", ""},
		{"create-function", "", "denied", "ada"},
		{"create-function", "", "denied", "ada"},
		{"create-function", id, "succeeded", ""},
		{"create-token", "", "succeeded", ""},
		{"create-member", "", "succeeded", ""},
	}
	sorted := func(list []entry) []entry { // those of one millisecond are in any order
		return slices.SortedFunc(slices.Values(list), func(a, b entry) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	if diff := cmp.Diff(sorted(want), sorted(all), cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
	if got := list("?subject="+id, operator); !slices.Equal(sorted(got), sorted([]entry{want[2], want[5]})) {
		t.Errorf("of the function there is %v", got)
	}
	if got := list("?tokenId="+token.ID+"&outcome=denied", operator); len(got) != 2 {
		t.Errorf("denied to her token: %v", got)
	}
	w.want(t, 403, "GET", "/v1/audit", "", "Authorization", viewer)
	w.want(t, 200, "POST", "/v1/projects", `{"name":"quiet"}`)
	_, answer := w.want(t, 200, "POST", "/v1/tokens", `{"role":"admin","name":"theirs","projectId":"quiet"}`)
	if got := list("", "Bearer "+decode[api.Token](t, answer).Token); len(got) != 0 {
		t.Errorf("another project's admin sees %v", got)
	}
	w.want(t, 200, "PATCH", "/v1/projects/quiet", `{"description":"said by an operator"}`)
	if got := list("", "Bearer "+decode[api.Token](t, answer).Token); len(got) != 1 || got[0].operation != "update-project" {
		t.Errorf("an admin sees of what an operator did to the project %v", got)
	}
	_, answer = w.want(t, 200, "GET", "/v1/executions", "")
	if e := decode[api.List[api.Execution]](t, answer).Items; len(e) != 1 || e[0].CreatedBy == "" {
		t.Errorf("who asked for the execution? %s", answer)
	}
}

func TestWhatCannotBeWrittenToTheAuditIsNotDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "safe")
	w.exec(t, `alter table audit rename to elsewhere`)
	w.want(t, 503, "DELETE", "/v1/functions/"+id, "")
	w.want(t, 200, "GET", "/v1/functions/"+id, "")
}

func TestMetricsAreForOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, admin := w.newToken(t, `{"role":"admin","name":"admin"}`)
	w.want(t, 401, "GET", "/metrics", "", "Authorization", "Bearer wk_wrong")
	w.want(t, 403, "GET", "/metrics", "", "Authorization", admin)
	w.want(t, 404, "GET", "/v1/functions/x", "")
	_, text := w.want(t, 200, "GET", "/metrics", "")
	for _, want := range []string{`warpket_requests_total{operation="create-token",status="200"} 1`, `warpket_requests_total{operation="get-function",status="404"} 1`, "warpket_refused_tokens_total 1"} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestProjectsChangeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	head, answer := w.want(t, 200, "POST", "/v1/projects", `{"name":"chemistry","description":"molecules"}`)
	p := decode[api.Project](t, answer)
	path, etag := "/v1/projects/"+p.ID, head.Get("ETag")
	head, _ = w.want(t, 200, "GET", path, "")
	if head.Get("ETag") != etag {
		t.Errorf("the ETag is %s, then %s", etag, head.Get("ETag"))
	}
	_, answer = w.want(t, 200, "PATCH", path, `{"description":"atoms"}`, "If-Match", etag)
	if p = decode[api.Project](t, answer); p.Description != "atoms" {
		t.Errorf("answered %s", answer)
	}
	w.want(t, 412, "PATCH", path, `{"allowEgress":true}`, "If-Match", etag)
	w.want(t, 422, "PATCH", path, `{"description":"\u0000"}`)
	w.want(t, 200, "POST", "/v1/functions", `{"functionName":"molecule","templateLanguageTag":"Python"}`, "X-Project-Id", p.ID)
	_, admin := w.newToken(t, `{"role":"admin","name":"admin","projectId":"chemistry"}`)
	w.want(t, 200, "GET", path, "", "Authorization", admin)
	w.want(t, 403, "DELETE", path, "", "Authorization", admin)
	w.want(t, 409, "DELETE", path, "")
	w.want(t, 412, "DELETE", path+"?force=true", "", "If-Match", etag)
	w.want(t, 204, "DELETE", path+"?force=true", "")
	w.want(t, 401, "GET", "/v1/functions", "", "Authorization", admin)
	w.want(t, 404, "GET", "/v1/functions", "", "X-Project-Id", p.ID)
	w.want(t, 404, "GET", path, "")
	w.want(t, 409, "DELETE", "/v1/projects/default", "")
	w.want(t, 200, "POST", "/v1/projects", `{"name":"chemistry"}`)
}

// exec runs a statement behind the server's back.
func (w *world) exec(t *testing.T, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestATokenForAFunctionSeesToItsAliasesWebhooksAndSchedules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	mine, other := w.function(t, "mine"), w.function(t, "other")
	token, header := w.newToken(t, `{"role":"member","name":"one-function","functions":["`+mine+`"]}`)
	auth := []string{"Authorization", header}
	w.want(t, 200, "POST", "/v1/aliases", `{"name":"theirs","functionId":"`+other+`","version":1}`)
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"KEY","value":"{\"token\":\"x\"}"}`)

	w.want(t, 200, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+mine+`","version":1}`, auth...)
	_, answer := w.want(t, 200, "POST", "/v1/webhooks", `{"alias":"prod"}`, auth...)
	webhook := "/v1/webhooks/" + decode[api.Webhook](t, answer).ID
	_, answer = w.want(t, 200, "POST", "/v1/schedules", `{"alias":"prod","pattern":"@yearly"}`, auth...)
	schedule := "/v1/schedules/" + decode[api.Schedule](t, answer).ID
	for _, path := range []string{"/v1/aliases/prod", webhook, schedule} {
		w.want(t, 200, "GET", path, "", auth...)
		w.want(t, 200, "PATCH", path, `{}`, auth...)
	}
	for _, list := range []string{"aliases", "webhooks", "schedules"} {
		_, answer := w.want(t, 200, "GET", "/v1/"+list, "", auth...)
		if n := len(decode[api.List[struct{}]](t, answer).Items); n != 1 {
			t.Errorf("it lists %d %s: %s", n, list, answer)
		}
		w.want(t, 200, "GET", "/v1/"+list+"?functionId=none", "", auth...)
	}
	for name, r := range map[string]struct {
		status             int
		method, path, body string
	}{
		"an alias moved to another function":     {404, "PATCH", "/v1/aliases/prod", `{"functionId":"` + other + `","version":1}`},
		"a webhook of another's alias":           {404, "POST", "/v1/webhooks", `{"alias":"theirs"}`},
		"a webhook moved to another's alias":     {404, "PATCH", webhook, `{"alias":"theirs"}`},
		"a webhook moved to another function":    {404, "PATCH", webhook, `{"functionId":"` + other + `"}`},
		"a schedule of another's alias":          {404, "POST", "/v1/schedules", `{"alias":"theirs","pattern":"@yearly"}`},
		"a schedule moved to another's alias":    {404, "PATCH", schedule, `{"alias":"theirs"}`},
		"an execution by another's alias":        {404, "POST", "/v1/executions", `{"alias":"theirs"}`},
		"an execution by an alias of its own":    {202, "POST", "/v1/executions", `{"alias":"prod","sync":false}`},
		"a webhook with a secret":                {403, "POST", "/v1/webhooks", `{"functionId":"` + mine + `","signature":"warpket","secret":"0123456789abcdef"}`},
		"a callback that a secret signs":         {403, "POST", "/v1/executions", `{"functionId":"` + mine + `","sync":false,"callbackUrl":"https://example.com/","callbackSecret":"KEY"}`},
		"a version with credentials for Git":     {403, "POST", "/v1/functions/" + mine + "/versions", `{"git":{"url":"https://git.example/x.git","credentials":"KEY"}}`},
		"a version with credentials for objects": {403, "POST", "/v1/functions/" + mine + "/versions", `{"object":{"bucket":"functions","key":"x.zip","credentials":"KEY"}}`},
		"credentials for images":                 {403, "PUT", "/v1/functions/" + mine, `{"functionName":"mine","credentials":"KEY"}`},
		"a runtime":                              {403, "POST", "/v1/runtimes", `{"name":"x","image":"registry.example/x:1","credentials":"KEY"}`},
	} {
		if status, _, answer := w.send(t, r.method, r.path, r.body, auth...); status != r.status || strings.Contains(answer, other) && !strings.Contains(r.body, other) {
			t.Errorf("%s: %d %.300s, want %d", name, status, answer, r.status)
		}
	}
	for _, path := range []string{webhook, schedule, "/v1/aliases/prod"} {
		w.want(t, 204, "DELETE", path, "", auth...)
	}

	w.always(t, `{"statusCode":200}`)
	head, _ := w.want(t, 200, "GET", "/gateway/"+mine+"/x", "", auth...)
	w.want(t, 404, "GET", "/gateway/"+other+"/x", "", auth...)
	w.want(t, 404, "GET", "/gateway/"+mine+"@theirs/x", "", auth...)
	if e, err := w.store.ExecutionByID(t.Context(), warpket.ID(head.Get("Warpket-Execution-Id"))); err != nil || string(e.CreatedBy) != token.ID {
		t.Errorf("who has called the gateway? %+v (%v)", e, err)
	}

	g := w.clone(t, mine)
	g.write(t, "new.txt", "new")
	g.commit(t, "more")
	by := func(function string) string { return strings.Replace(w.gitURL(function), w.token, token.Token, 1) }
	g.git(t, "fetch", by(mine))
	g.git(t, "push", by(mine), "main")
	g.refused(t, "there is no function", "fetch", by(other))
	g.refused(t, "there is no function", "push", by(other), "main")
}

func TestATokenForAFunctionShowsItsCredentialsNowhereElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.auth = warpket.RegistryAuth{Token: "x"}
	w.images.tags["registry.example/bell:1"], w.images.tags["registry.example/bell:2"], w.images.tags["elsewhere.example/bell:1"] = digest1, digest2, digest1
	w.want(t, 200, "POST", "/v1/secrets", `{"name":"KEY","value":"{\"token\":\"x\"}"}`)
	_, answer := w.want(t, 200, "POST", "/v1/functions", strings.Replace(bell, "}", `,"credentials":"KEY"}`, 1))
	id := decode[api.CreatedFunction](t, answer).FunctionID
	_, header := w.newToken(t, `{"role":"member","name":"one-function","functions":["`+id+`"]}`)
	versions := "/v1/functions/" + id + "/versions"
	w.want(t, 403, "POST", versions, `{"image":"elsewhere.example/bell:1"}`, "Authorization", header)
	w.want(t, 403, "PUT", "/v1/functions/"+id+"/draft", `{"image":"elsewhere.example/bell:1"}`, "Authorization", header)
	w.want(t, 200, "POST", versions, `{"image":"registry.example/bell:2"}`, "Authorization", header)
	w.want(t, 200, "POST", versions, `{"image":"elsewhere.example/bell:1"}`)
}

func TestEveryOperationThatMayChangeAnythingIsInTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	tried := 0
	for path, item := range s.OpenAPI().Paths {
		for _, op := range operations(item) {
			scope, _ := s.Scope(op.OperationID)
			if op.Method == http.MethodGet || scope == api.Public {
				continue
			}
			concrete := strings.NewReplacer("{functionId}", "x", "{version}", "1", "{other}", "1", "{path}", "x", "{id}", "x", "{tag}", "x", "{name}", "x", "{member}", "x").Replace(path)
			w.send(t, op.Method, concrete, "no JSON")
			_, answer := w.want(t, 200, "GET", "/v1/audit?operation="+op.OperationID, "")
			acts := decode[api.List[api.Act]](t, answer).Items
			want := 1
			if op.OperationID == "create-execution" { // which is its own record
				want = 0
			}
			if len(acts) != want || want > 0 && acts[0].Outcome == "unknown" {
				t.Errorf("%s %s is in the audit as %s", op.Method, concrete, answer)
			}
			tried++
		}
	}
	if tried < 35 {
		t.Errorf("there are only %d", tried)
	}
}

func TestAPushIsInTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buildsAll(t)
	id := w.function(t, "pushed")
	g := w.clone(t, id)
	g.write(t, "new.txt", "new")
	g.commit(t, "more")
	g.git(t, "push", "origin", "main")
	g.refused(t, "there is only main", "push", "origin", "main:other")
	viewer, _ := w.newToken(t, `{"role":"viewer","name":"viewer"}`)
	g.refused(t, "needs the role member", "push", strings.Replace(g.url, w.token, viewer.Token, 1), "main")
	_, answer := w.want(t, 200, "GET", "/v1/audit?operation=push-version&subject="+id, "")
	outcomes := map[string]int{}
	for _, a := range decode[api.List[api.Act]](t, answer).Items {
		outcomes[a.Outcome]++
	}
	if diff := cmp.Diff(map[string]int{"succeeded": 1, "refused": 1, "denied": 1}, outcomes); diff != "" {
		t.Errorf("%s\n%s", diff, answer)
	}
	w.exec(t, `alter table audit rename to elsewhere`)
	g.write(t, "new.txt", "newer")
	g.commit(t, "yet more")
	g.refused(t, "could not be written down", "push", "origin", "main")
	_, answer = w.want(t, 200, "GET", "/v1/functions/"+id+"/versions", "")
	if n := len(decode[api.List[api.FunctionVersion]](t, answer).Items); n != 2 {
		t.Errorf("there are %d versions", n)
	}
}

func TestWhatIsOverTheStorageQuotaIsRefusedHoweverItComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "full")
	g := w.clone(t, id)
	_, answer := w.want(t, 200, "GET", "/v1/projects/default/quotas", "")
	used := *decode[api.Quota](t, answer).Used.Storage
	w.want(t, 200, "PUT", "/v1/projects/default/quotas", fmt.Sprintf(`{"storage":%d}`, used+10))
	g.write(t, "large.txt", strings.Repeat("x", 100))
	g.commit(t, "large")
	g.refused(t, "bytes stored", "push", "origin", "main")
	g.refused(t, "remote rejected", "push", "origin", "main")
	files := `"templateFiles":[{"filename":"handler.py","content":"` + strings.Repeat("y", 100) + `"}]`
	w.want(t, 429, "PUT", "/v1/functions/"+id+"/draft", "{"+files+"}")
	w.want(t, 429, "POST", "/v1/functions/"+id+"/versions", "{"+files+"}")
	if status, body := w.form(t, "/v1/functions/"+id+"/versions", map[string]string{"package": zipped(t, map[string]string{"handler.py": strings.Repeat("z", 100)})}); status != 429 {
		t.Errorf("a package: %d %s", status, body)
	}
	_, answer = w.want(t, 200, "GET", "/v1/functions/"+id+"/versions", "")
	if n := len(decode[api.List[api.FunctionVersion]](t, answer).Items); n != 1 {
		t.Errorf("there are %d versions", n)
	}
}
