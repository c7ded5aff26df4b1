package api_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/secrets"
)

const hookSecret = "canary-secret-of-32-bytes-length"

func (w *world) webhook(t *testing.T, body string) api.Webhook {
	t.Helper()
	status, _, answer := w.send(t, "POST", "/v1/webhooks", body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	return decode[api.Webhook](t, answer)
}

// anonymous is for requests without a token.
var anonymous = []string{"Authorization", ""}

func (w *world) invoke(t *testing.T, hook api.Webhook, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	return w.send(t, "POST", hook.URL, body, append(anonymous, header...)...)
}

func TestAWebhookExecutesWithoutAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.another(t, f)
	w.send(t, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+f+`","version":1}`)
	for name, test := range map[string]struct {
		create  string
		version int
		alias   string
	}{
		"the newest version": {`{"functionId":"` + f + `"}`, 2, ""},
		"a fixed version":    {`{"functionId":"` + f + `","version":1}`, 1, ""},
		"an alias":           {`{"alias":"prod"}`, 1, "prod"},
	} {
		hook := w.webhook(t, test.create)
		status, _, body := w.invoke(t, hook, `{"n":1}`)
		in := decode[api.Invocation](t, body)
		if status != http.StatusAccepted || in.Status != "queued" || in.ExecutionID == "" {
			t.Errorf("%s: %d %s", name, status, body)
			continue
		}
		_, _, body = w.send(t, "GET", "/v1/executions/"+in.ExecutionID, "")
		e := decode[api.Execution](t, body)
		if e.Version != test.version || e.Alias != test.alias || e.Description != "Created by Webhook "+hook.ID || !cmp.Equal(e.Origin, &api.Origin{Kind: "webhook", ID: hook.ID}) {
			t.Errorf("%s executes %s", name, body)
		}
	}
}

func TestAnythingThatIsSentToAWebhookReachesTheHandler(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(t, func(event json.RawMessage) (string, *warpket.Failure) { return string(event), nil })
	hook := w.webhook(t, `{"functionId":"`+w.function(t, "echo")+`","sync":true}`)
	noQuery := map[string]any{}
	tests := map[string]struct {
		query, kind, body string
		want              map[string]any
	}{
		"JSON":            {"", "application/json; charset=utf-8", `{"n":[1,"a"]}`, map[string]any{"query": noQuery, "body": map[string]any{"n": []any{1., "a"}}}},
		"other JSON":      {"", "application/cloudevents+json", `[null]`, map[string]any{"query": noQuery, "body": []any{nil}}},
		"a form":          {"", "application/x-www-form-urlencoded", `a=1&a=2&b=%20x`, map[string]any{"query": noQuery, "body": map[string]any{"a": []any{"1", "2"}, "b": []any{" x"}}}},
		"text":            {"", "text/plain", "grüße", map[string]any{"query": noQuery, "body": "grüße"}},
		"nothing":         {"", "application/json", "", map[string]any{"query": noQuery, "body": nil}},
		"bytes":           {"", "application/octet-stream", "\xff\x00", map[string]any{"query": noQuery, "body": nil, "bodyBase64": "/wA="}},
		"text of no kind": {"", "", "plain", map[string]any{"query": noQuery, "body": "plain"}},
		"a query":         {"?a=1&a=2&cursor=x&unknown", "text/plain", "", map[string]any{"query": map[string]any{"a": []any{"1", "2"}, "cursor": []any{"x"}, "unknown": []any{""}}, "body": nil}},
	}
	for name, test := range tests {
		status, _, body := w.send(t, "POST", hook.URL+test.query, test.body, append(anonymous, "Content-Type", test.kind,
			"User-Agent", "sender", "X-GitHub-Event", "push", "X-Gitlab-Token", "canary", "Cookie", "canary=1", "X-Forwarded-For", "canary", "X-Secret", "canary")...)
		test.want["method"] = "POST"
		headers := map[string]any{"user-agent": "sender", "x-github-event": "push", "content-type": test.kind}
		test.want["headers"] = headers
		var got map[string]any
		if in := decode[api.Invocation](t, body); status != http.StatusOK || json.Unmarshal(in.Result, &got) != nil {
			t.Errorf("%s: %d %s", name, status, body)
			continue
		}
		if test.kind == "" {
			headers["content-type"] = ""
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, test := range map[string]struct {
		query, kind, body string
		want              int
	}{
		"broken JSON":     {"", "application/json", `{"n":`, 400},
		"a broken form":   {"", "application/x-www-form-urlencoded", `a=%zz`, 400},
		"a broken query":  {"?a=%zz", "text/plain", ``, 400},
		"more than 1 MiB": {"", "text/plain", strings.Repeat("x", 1<<20+1), 413},
	} {
		if status, _, body := w.send(t, "POST", hook.URL+test.query, test.body, append(anonymous, "Content-Type", test.kind)...); status != test.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, test.want)
		}
	}
}

func TestASyncWebhookTellsWhatCameOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.answers(t, func(event json.RawMessage) (string, *warpket.Failure) {
		if strings.Contains(string(event), "fail") {
			return "", &warpket.Failure{Code: warpket.Raised, Message: "canary", Traceback: "canary"}
		}
		return `{"counts":{"00":1}}`, nil
	})
	hook := w.webhook(t, `{"functionId":"`+f+`","sync":true}`)
	status, _, body := w.invoke(t, hook, `{}`)
	if in := decode[api.Invocation](t, body); status != http.StatusOK || in.Status != "succeeded" || string(in.Result) != `{"counts":{"00":1}}` || in.Error != "" {
		t.Errorf("it answers %d %s", status, body)
	}
	status, _, body = w.invoke(t, hook, `"fail"`)
	if in := decode[api.Invocation](t, body); status != http.StatusOK || in.Status != "failed" || in.Error != "raised" || strings.Contains(body, "canary") {
		t.Errorf("a failure is answered %d %s", status, body)
	}
	w.mu.Lock()
	w.run = nil // it goes on for ever
	w.mu.Unlock()
	if status, _, body = w.invoke(t, hook, `{}`, "Prefer", "wait=0"); status != http.StatusAccepted || decode[api.Invocation](t, body).Status != "queued" {
		t.Errorf("what is not final is answered %d %s", status, body)
	}
	async := w.webhook(t, `{"functionId":"`+f+`"}`)
	if status, _, body = w.invoke(t, async, `{}`, "Prefer", "wait=60"); status != http.StatusAccepted {
		t.Errorf("one that is not sync answers %d %s", status, body)
	}
}

func TestASignedWebhookTakesWhatIsSignedOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	hook := w.webhook(t, `{"functionId":"`+f+`","signature":"warpket","secret":"`+hookSecret+`"}`)
	github := w.webhook(t, `{"functionId":"`+f+`","signature":"github","secret":"`+hookSecret+`"}`)
	const body = `{"n":1}`
	sign := func(at time.Duration) string {
		return warpket.SignedByWarpket.Sign(hookSecret, []byte(body), time.Now().Add(at))
	}
	hub := warpket.SignedByGitHub.Sign(hookSecret, []byte(body), time.Now())
	for name, test := range map[string]struct {
		hook         api.Webhook
		query, body  string
		header, text string
		want         int
	}{
		"signed":                    {hook, "", body, "X-Warpket-Signature", sign(0), 202},
		"unsigned":                  {hook, "", body, "X-Other", "", 403},
		"signed long ago":           {hook, "", body, "X-Warpket-Signature", sign(-6 * time.Minute), 403},
		"of another body":           {hook, "", `{"n":2}`, "X-Warpket-Signature", sign(0), 403},
		"with a query":              {hook, "?n=2", body, "X-Warpket-Signature", sign(0), 422},
		"as GitHub does":            {hook, "", body, "X-Hub-Signature-256", hub, 403},
		"GitHub's":                  {github, "", body, "X-Hub-Signature-256", hub, 202},
		"GitHub's, of another body": {github, "", `{"n":2}`, "X-Hub-Signature-256", hub, 403},
		"GitHub's, unsigned":        {github, "", body, "X-Warpket-Signature", sign(0), 403},
	} {
		if status, _, answer := w.send(t, "POST", test.hook.URL+test.query, test.body, append(anonymous, test.header, test.text)...); status != test.want {
			t.Errorf("%s: %d %s, want %d", name, status, answer, test.want)
		}
	}
	if status, _, answer := w.send(t, "PATCH", "/v1/webhooks/"+hook.ID, `{"secret":"another secret for it"}`); status != http.StatusOK {
		t.Fatalf("changing the secret: %d %s", status, answer)
	}
	if status, _, answer := w.invoke(t, hook, body, "X-Warpket-Signature", sign(0)); status != http.StatusForbidden {
		t.Errorf("the earlier secret: %d %s", status, answer)
	}
	if status, _, answer := w.send(t, "PATCH", "/v1/webhooks/"+hook.ID, `{"signature":"none"}`); status != http.StatusOK {
		t.Fatalf("taking the signature away: %d %s", status, answer)
	}
	if status, _, answer := w.invoke(t, hook, body); status != http.StatusAccepted {
		t.Errorf("without a signature: %d %s", status, answer)
	}
}

func TestTheSecretOfAWebhookIsInNoAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	hook := w.webhook(t, `{"functionId":"`+f+`","signature":"warpket","secret":"`+hookSecret+`"}`)
	for _, r := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","signature":"warpket","secret":"` + hookSecret + `"}`, 200},
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","secret":"` + hookSecret + `"}`, 422},
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","signature":"none","secret":"` + hookSecret + `"}`, 422},
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","signature":"warpket","secret":"canary"}`, 422},
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","signature":"warpket","secret":"` + strings.Repeat("canary", 50) + `"}`, 422},
		{"POST", "/v1/webhooks", `{"functionId":"` + f + `","signature":"warpket"}`, 422},
		{"PATCH", "/v1/webhooks/" + hook.ID, `{"secret":"` + hookSecret + `"}`, 200},
		{"GET", "/v1/webhooks/" + hook.ID, "", 200},
		{"GET", "/v1/webhooks", "", 200},
		{"POST", hook.URL, "{}", 403},
	} {
		status, header, body := w.send(t, r.method, r.path, r.body)
		if status != r.want || strings.Contains(body, "canary") {
			t.Errorf("%s %s %.90s: %d %v %s, want %d", r.method, r.path, r.body, status, header, body, r.want)
		}
	}
	if kept, err := w.store.WebhookByID(t.Context(), warpket.ID(hook.ID)); err != nil || len(kept.Sealed) == 0 || strings.Contains(string(kept.Sealed), "canary") {
		t.Errorf("it is kept as %q (%v)", kept.Sealed, err)
	}
}

func TestWithoutAKeyASignedWebhookAnswersWhatToSet(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, secrets.Keyring{})
	f := w.function(t, "bell")
	status, _, body := w.send(t, "POST", "/v1/webhooks", `{"functionId":"`+f+`","signature":"warpket","secret":"`+hookSecret+`"}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "WARPKET_SECRET_KEY") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := w.invoke(t, w.webhook(t, `{"functionId":"`+f+`"}`), "{}"); status != http.StatusAccepted {
		t.Errorf("one without a signature needs none: %d %s", status, body)
	}
}

func TestAWebhookLetsThroughWhatItsOwnerSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	hook, other := w.webhook(t, `{"functionId":"`+f+`","ratePerMinute":2}`), w.webhook(t, `{"functionId":"`+f+`"}`)
	signed := w.webhook(t, `{"functionId":"`+f+`","ratePerMinute":1,"signature":"warpket","secret":"`+hookSecret+`"}`)
	for i, want := range []int{202, 202, 429} {
		status, header, body := w.invoke(t, hook, "{}")
		if status != want {
			t.Errorf("request %d: %d %s, want %d", i+1, status, body, want)
		}
		// One of two in a minute comes back after half of it, less what the requests have taken.
		if after, err := strconv.Atoi(header.Get("Retry-After")); want == 429 && (err != nil || after < 1 || after > 30) {
			t.Errorf("it says to try again after %q seconds", header.Get("Retry-After"))
		}
	}
	if status, _, body := w.invoke(t, other, "{}"); status != http.StatusAccepted {
		t.Errorf("another webhook: %d %s", status, body)
	}
	w.send(t, "PATCH", "/v1/webhooks/"+hook.ID, `{"ratePerMinute":6000}`)
	if status, _, body := w.invoke(t, hook, "{}"); status != http.StatusAccepted {
		t.Errorf("with more: %d %s", status, body)
	}
	w.invoke(t, signed, "{}")
	if status, _, body := w.invoke(t, signed, "{}", "X-Warpket-Signature", warpket.SignedByWarpket.Sign(hookSecret, []byte("{}"), time.Now())); status != http.StatusAccepted {
		t.Errorf("what was not signed counts: %d %s", status, body)
	}
}

func TestAWebhookThatIsNotTellsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	hook := w.webhook(t, `{"functionId":"`+f+`"}`)
	if status, _, body := w.invoke(t, hook, "{}"); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := w.send(t, "DELETE", "/v1/webhooks/"+hook.ID, ""); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	never := string(warpket.NewID(time.Now()))
	for name, id := range map[string]string{"deleted": hook.ID, "never there": never, "no ID": "x", "too long for one": strings.Repeat("x", 200)} {
		status, _, body := w.send(t, "POST", "/v1/webhooks/"+id+"/invoke", "{}", anonymous...)
		if p := decode[api.Problem](t, body); status != http.StatusNotFound || p.Detail != `there is no webhook "`+id+`"` {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestAWebhookIsChangedAndItsTargetReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.another(t, f)
	w.send(t, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+f+`","version":1}`)
	hook := w.webhook(t, `{"functionId":"`+f+`","version":1,"description":"nightly"}`)
	path := "/v1/webhooks/" + hook.ID
	_, header, _ := w.send(t, "GET", path, "")
	type target struct {
		function, alias string
		version         int
	}
	for _, test := range []struct {
		body string
		want int
		now  target
	}{
		{`{"version":2}`, 200, target{f, "", 2}},
		{`{"version":7}`, 422, target{f, "", 2}},
		{`{"sync":true}`, 200, target{f, "", 2}},
		{`{"functionId":"` + f + `"}`, 200, target{f, "", 0}},
		{`{"alias":"prod"}`, 200, target{"", "prod", 0}},
		{`{"version":1}`, 422, target{"", "prod", 0}},
		{`{"alias":"other"}`, 404, target{"", "prod", 0}},
		{`{"alias":"prod","functionId":"` + f + `"}`, 422, target{"", "prod", 0}},
		{`{"functionId":"` + f + `","version":1}`, 200, target{f, "", 1}},
	} {
		status, _, body := w.send(t, "PATCH", path, test.body)
		if status != test.want {
			t.Errorf("%s: %d %s, want %d", test.body, status, body, test.want)
		}
		_, _, body = w.send(t, "GET", path, "")
		got := decode[api.Webhook](t, body)
		now := target{got.FunctionID, got.Alias, 0}
		if got.Version != nil {
			now.version = *got.Version
		}
		if now != test.now || got.Description != "nightly" {
			t.Errorf("after %s it is %s", test.body, body)
		}
	}
	if status, _, body := w.send(t, "PATCH", path, `{"sync":false}`, "If-Match", header.Get("ETag")); status != http.StatusPreconditionFailed {
		t.Errorf("changing what has changed: %d %s", status, body)
	}
}
