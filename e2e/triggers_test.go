package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// unknown is the client of somebody without a token.
func (c *client) unknown() *client { return &client{api: c.api} }

func TestAWebhookIsCalledWithItsSignature(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("hook"), `
def handler(event, context):
    print("called by", event["headers"]["user-agent"])
    return {"sum": sum(event["body"]["numbers"]), "method": event["method"]}
`, nil)
	const secret = "a secret between two machines"
	hook := as[struct{ ID, URL string }](t, c.ok(t, "POST", "/v1/webhooks", object{"functionId": id, "signature": "warpket", "secret": secret, "sync": true}))
	body := `{"numbers": [1, 2, 39]}`
	sign := func(at time.Time) string {
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
		return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
	}
	sender := c.unknown()
	type invocation struct {
		ExecutionID, Status string
		Result              json.RawMessage
	}
	got := as[invocation](t, sender.ok(t, "POST", hook.URL, body, "X-Warpket-Signature", sign(time.Now()), "User-Agent", "a-machine"))
	if got.Status != "succeeded" || string(got.Result) != `{"sum":42,"method":"POST"}` && string(got.Result) != `{"sum": 42, "method": "POST"}` {
		t.Errorf("it answers %+v: %s", got, got.Result)
	}
	if log := c.ok(t, "GET", "/v1/executions/"+got.ExecutionID+"/log", nil); !strings.Contains(string(log.body), "called by a-machine") {
		t.Errorf("its log is %q", log.body)
	}
	for name, signature := range map[string]string{"none": "", "an old one": sign(time.Now().Add(-time.Hour)), "another's": strings.Replace(sign(time.Now()), "v1=", "v1=00", 1)} {
		if a := sender.send(t, "POST", hook.URL, body, "X-Warpket-Signature", signature); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestAnAliasMovesWhatAWebhookExecutes(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("moved"), "def handler(event, context): return 'two'\n", nil)
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": []object{{"filename": "handler.py", "content": "def handler(event, context): return 'three'\n"}}})
	name := unique("prod")
	c.ok(t, "POST", "/v1/aliases", object{"name": name, "functionId": id, "version": 2})
	hook := as[struct{ ID, URL string }](t, c.ok(t, "POST", "/v1/webhooks", object{"alias": name, "sync": true}))
	invoke := func() string {
		t.Helper()
		return string(as[struct{ Result json.RawMessage }](t, c.unknown().ok(t, "POST", hook.URL, nil)).Result)
	}
	if got := invoke(); got != `"two"` {
		t.Errorf("before it answers %s", got)
	}
	c.ok(t, "PATCH", "/v1/aliases/"+name, object{"version": 3})
	if got := invoke(); got != `"three"` {
		t.Errorf("after it answers %s", got)
	}
	if e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"alias": name})); e.Version != 3 {
		t.Errorf("an execution by the alias runs version %d", e.Version)
	}
	listed := as[struct{ Items []execution }](t, c.ok(t, "GET", "/v1/executions?alias="+name, nil)).Items
	if len(listed) != 3 {
		t.Errorf("%d executions are listed by the alias", len(listed))
	}
}

func TestAFunctionServesHTTPThroughItsGateway(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("serving"), `
import base64
def handler(event, context):
    if event["path"] == "/echo":
        return {"statusCode": 200, "headers": {"Content-Type": "application/x-own", "Set-Cookie": "a=b"}, "bodyBase64": event["bodyBase64"]}
    if event["path"] == "/fails":
        raise ValueError("a secret reason")
    if event["path"] == "/leaves":
        return {"statusCode": 302, "headers": {"Location": "https://example.org/"}}
    return {"method": event["method"], "path": event["path"], "query": event["query"], "agent": event["headers"]["user-agent"]}
`, object{"gateway": "public"})
	url := as[struct{ GatewayURL string }](t, c.ok(t, "GET", "/v1/functions/"+id, nil)).GatewayURL
	if url != "/gateway/"+id+"/" {
		t.Fatalf("it serves at %q", url)
	}
	anyone := c.unknown()
	got := as[map[string]any](t, anyone.ok(t, "GET", url+"some/where?n=1&n=2", nil, "User-Agent", "a-browser"))
	query, _ := json.Marshal(got["query"])
	if got["method"] != "GET" || got["path"] != "/some/where" || string(query) != `{"n":["1","2"]}` || got["agent"] != "a-browser" {
		t.Errorf("it gets %v", got)
	}
	every := make([]byte, 1<<16)
	for i := range every {
		every[i] = byte(i * 7)
	}
	echo := c.raw(t, "POST", url+"echo", every)
	if echo.status != http.StatusOK || !bytes.Equal(echo.body, every) || echo.header.Get("Content-Type") != "application/x-own" || echo.header.Get("Set-Cookie") != "" {
		t.Errorf("64 KiB come back as %d, %d bytes, %v", echo.status, len(echo.body), echo.header)
	}
	fails := anyone.send(t, "GET", url+"fails", nil)
	if p := as[problem](t, fails); fails.status != http.StatusBadGateway || p.Code != "bad_gateway" || strings.Contains(string(fails.body), "reason") {
		t.Errorf("a failure is answered %d %s", fails.status, fails.body)
	}
	if a := c.raw(t, "GET", url+"leaves", nil); a.status != http.StatusFound || a.header.Get("Location") != "https://example.org/" {
		t.Errorf("a redirect is %d %v", a.status, a.header)
	}
	if a := c.raw(t, "HEAD", url, nil); a.status != http.StatusOK || len(a.body) != 0 || a.header.Get("Content-Length") == "0" {
		t.Errorf("HEAD is answered %d %v", a.status, a.header)
	}
	e := as[struct{ Lane string }](t, c.ok(t, "GET", "/v1/executions/"+echo.header.Get("Warpket-Execution-Id"), nil))
	if e.Lane != "express" {
		t.Errorf("it takes the lane %s", e.Lane)
	}
	c.ok(t, "PATCH", "/v1/functions/"+id, object{"gateway": "token"})
	if a := anyone.send(t, "GET", url, nil); a.status != http.StatusUnauthorized {
		t.Errorf("without a token, once it asks for one: %d %s", a.status, a.body)
	}
	c.ok(t, "GET", url, nil)
}

// raw sends bytes, without a token, and follows no redirect.
func (c *client) raw(t *testing.T, method, path string, body []byte) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.api+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b.Bytes()}
}
