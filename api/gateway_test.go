package api_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// serving makes a function that serves HTTP for everybody.
func (w *world) serving(t *testing.T, gateway string) string {
	t.Helper()
	f := w.function(t, "serving-"+rand32()[:8])
	if status, _, body := w.send(t, "PATCH", "/v1/functions/"+f, `{"gateway":"`+gateway+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return f
}

// always has every execution end with this result.
func (w *world) always(t *testing.T, result string) {
	t.Helper()
	w.answers(t, func(json.RawMessage) (string, *warpket.Failure) { return result, nil })
}

func TestARequestReachesTheHandlerAsItWasSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.serving(t, "public")
	w.answers(t, func(event json.RawMessage) (string, *warpket.Failure) { return string(event), nil })
	binary := "\x00\xff\xfe"
	for name, test := range map[string]struct {
		method, path, body string
		want               map[string]any
	}{
		"a GET":            {"GET", "", "", map[string]any{"path": "/", "rawPath": "/", "query": map[string]any{}, "body": nil}},
		"a path":           {"DELETE", "/a%2Fb//../c%20d", "", map[string]any{"path": "/a/b//../c d", "rawPath": "/a%2Fb//../c%20d", "query": map[string]any{}, "body": nil}},
		"a query":          {"GET", "/?a=1&a=2&b", "", map[string]any{"path": "/", "rawPath": "/", "query": map[string]any{"a": []any{"1", "2"}, "b": []any{""}}, "body": nil}},
		"text":             {"POST", "/", "grüße", map[string]any{"path": "/", "rawPath": "/", "query": map[string]any{}, "body": "grüße"}},
		"bytes":            {"PUT", "/", binary, map[string]any{"path": "/", "rawPath": "/", "query": map[string]any{}, "body": nil, "bodyBase64": base64.StdEncoding.EncodeToString([]byte(binary))}},
		"a method of own":  {"PURGE", "/", "", map[string]any{"path": "/", "rawPath": "/", "query": map[string]any{}, "body": nil}},
		"OPTIONS":          {"OPTIONS", "/x", "", map[string]any{"path": "/x", "rawPath": "/x", "query": map[string]any{}, "body": nil}},
		"bytes in a path":  {"GET", "/%00%ff", "", map[string]any{"path": "/\x00\ufffd", "rawPath": "/%00%ff", "query": map[string]any{}, "body": nil}},
		"a slash too many": {"GET", "//", "", map[string]any{"path": "//", "rawPath": "//", "query": map[string]any{}, "body": nil}},
	} {
		status, header, body := w.send(t, test.method, "/gateway/"+f+test.path, test.body, append(anonymous, "Content-Type", "x/y", "User-Agent", "test", "Accept-Encoding", "identity",
			"X-Mine", "1", "Cookie", "canary=1", "X-Forwarded-For", "canary", "Proxy-Authorization", "canary", "Te", "trailers")...)
		var got map[string]any
		if status != http.StatusOK || json.Unmarshal([]byte(body), &got) != nil {
			t.Errorf("%s: %d %s", name, status, body)
			continue
		}
		headers, _ := got["headers"].(map[string]any)
		delete(headers, "content-length")
		test.want["method"], test.want["remoteAddress"] = test.method, "127.0.0.1"
		test.want["headers"] = map[string]any{"content-type": "x/y", "user-agent": "test", "accept-encoding": "identity", "x-mine": "1", "authorization": "", "host": strings.TrimPrefix(w.url, "http://")}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		_, _, body = w.send(t, "GET", "/v1/executions/"+header.Get("Warpket-Execution-Id"), "")
		if e := decode[api.Execution](t, body); e.Lane != "express" || !cmp.Equal(e.Origin, &api.Origin{Kind: "gateway"}) || !strings.HasPrefix(e.Description, test.method+" /gateway/"+f) {
			t.Errorf("%s is executed as %s", name, body)
		}
	}
}

func TestAResultIsTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/gateway/" + w.serving(t, "public")
	for name, test := range map[string]struct {
		result string
		status int
		kind   string
		body   string
	}{
		"any value":         {`{"counts":{"00":1}}`, 200, "application/json", `{"counts":{"00":1}}`},
		"null":              {`null`, 200, "application/json", `null`},
		"text":              {`{"statusCode":201,"body":"made"}`, 201, "text/plain; charset=utf-8", "made"},
		"bytes":             {`{"statusCode":200,"headers":{"content-type":"image/png"},"bodyBase64":"/wA="}`, 200, "image/png", "\xff\x00"},
		"bytes of no kind":  {`{"statusCode":200,"body":null,"bodyBase64":"/wA="}`, 200, "application/octet-stream", "\xff\x00"},
		"a value":           {`{"statusCode":404,"body":{"detail":"no"}}`, 404, "application/json", `{"detail":"no"}`},
		"nothing":           {`{"statusCode":204}`, 204, "", ""},
		"a redirect":        {`{"statusCode":302,"headers":{"Location":"/elsewhere"}}`, 302, "", ""},
		"another's failure": {`{"statusCode":503,"body":"later"}`, 503, "text/plain; charset=utf-8", "later"},
	} {
		w.always(t, test.result)
		status, header, body := w.sendOnce(t, "GET", path, "", anonymous...)
		if status != test.status || header.Get("Content-Type") != test.kind || body != test.body {
			t.Errorf("%s: %d %q %s", name, status, header.Get("Content-Type"), body)
		}
		if header.Get("Content-Security-Policy") == "" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s is not kept apart: %v", name, header)
		}
		status, header, body = w.sendOnce(t, "HEAD", path, "", anonymous...)
		if status != test.status || header.Get("Content-Type") != test.kind || body != "" {
			t.Errorf("%s by HEAD: %d %v %s", name, status, header, body)
		}
	}
	for name, result := range map[string]string{
		"no status":              `{"statusCode":"200"}`,
		"a status of no answer":  `{"statusCode":101}`,
		"a status out of bounds": `{"statusCode":700}`,
		"two bodies":             `{"statusCode":200,"body":"a","bodyBase64":"YQ=="}`,
		"no base64":              `{"statusCode":200,"bodyBase64":"!"}`,
		"a body where none is":   `{"statusCode":204,"body":"a"}`,
		"headers of no kind":     `{"statusCode":200,"headers":["a"]}`,
		"a header of no kind":    `{"statusCode":200,"headers":{"a":{}}}`,
		"a header in a value":    `{"statusCode":200,"headers":{"a":"b\r\nSet-Cookie: c=d"}}`,
		"a header in a name":     `{"statusCode":200,"headers":{"a: b\r\nc":"d"}}`,
		"a header without end":   `{"statusCode":200,"headers":{"a":"` + strings.Repeat("x", 33<<10) + `"}}`,
		"headers without end":    `{"statusCode":200,"headers":{"a":[` + strings.Repeat(`"x",`, 100) + `"x"]}}`,
	} {
		w.always(t, result)
		status, _, body := w.send(t, "GET", path, "", anonymous...)
		if p := decode[api.Problem](t, body); status != http.StatusBadGateway || p.Code != "bad_gateway" || !strings.Contains(p.Detail, "cannot be sent: ") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// sendOnce is send without following redirects.
func (w *world) sendOnce(t *testing.T, method, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestAFunctionReachesNoOtherByItsHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.serving(t, "public")
	harmful := []string{
		"Set-Cookie", "set-cookie", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Service-Worker-Allowed", "NEL", "Report-To", "Reporting-Endpoints",
		"WWW-Authenticate", "Connection", "Transfer-Encoding", "Content-Length", "X-Accel-Redirect", "X-Content-Type-Options", "Warpket-Execution-Id",
	}
	headers := map[string]any{
		"Content-Type": "text/html", "Content-Security-Policy": []string{"sandbox allow-same-origin", "default-src *"}, "Access-Control-Allow-Origin": "*", "X-Number": 7, "Cache-Control": "max-age=60", "Vary": []string{"A", "B"},
	}
	for _, name := range harmful {
		headers[name] = "canary"
	}
	answer, err := json.Marshal(map[string]any{"statusCode": 200, "headers": headers, "body": "<script>"})
	if err != nil {
		t.Fatal(err)
	}
	w.always(t, string(answer))
	status, got, body := w.send(t, "GET", "/gateway/"+f+"/", "", anonymous...)
	if status != http.StatusOK || body != "<script>" {
		t.Fatalf("%d %s", status, body)
	}
	for name, values := range got {
		if strings.Contains(strings.Join(values, ","), "canary") {
			t.Errorf("%s: %v comes through", name, values)
		}
	}
	policies := got.Values("Content-Security-Policy")
	if len(policies) != 3 || strings.Contains(policies[2], "allow-same-origin") || !strings.HasPrefix(policies[2], "sandbox") {
		t.Errorf("the policies are %q", policies)
	}
	for name, want := range map[string]string{"Content-Type": "text/html", "Access-Control-Allow-Origin": "*", "X-Number": "7", "Cache-Control": "max-age=60", "Vary": "A,B"} {
		if v := strings.Join(got.Values(name), ","); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
}

func TestWhyAFunctionDoesNotAnswerIsSaidInWordsForAnybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.serving(t, "public")
	for code, want := range map[warpket.FailureCode]struct {
		status int
		code   api.Code
	}{
		warpket.Raised:        {502, "bad_gateway"},
		warpket.Crashed:       {502, "bad_gateway"},
		warpket.LostCode:      {502, "bad_gateway"},
		warpket.TimedOutCode:  {504, "gateway_timeout"},
		warpket.CancelledCode: {503, "unavailable"},
		warpket.NotPlaced:     {503, "unavailable"},
		warpket.NoRuntime:     {503, "unavailable"},
		warpket.NotPrepared:   {503, "unavailable"},
	} {
		w.answers(t, func(json.RawMessage) (string, *warpket.Failure) {
			return "", &warpket.Failure{Code: code, Message: "canary", Traceback: "canary"}
		})
		status, _, body := w.send(t, "GET", "/gateway/"+f, "", anonymous...)
		if p := decode[api.Problem](t, body); status != want.status || p.Code != want.code || !strings.Contains(p.Detail, "execution 0") || strings.Contains(body, "canary") {
			t.Errorf("%s: %d %s", code, status, body)
		}
	}
}

func TestAGatewayIsForWhomItsFunctionSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.always(t, `"served"`)
	token, public, off := w.serving(t, "token"), w.serving(t, "public"), w.serving(t, "off")
	status, _, body := w.send(t, "POST", "/v1/projects", `{"name":"two"}`)
	project := decode[api.Project](t, body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	_, _, body = w.send(t, "POST", "/v1/tokens", `{"role":"admin","name":"stranger","projectId":"`+project.ID+`"}`)
	stranger := decode[struct{ Token string }](t, body).Token
	member, viewer := w.tokenOf(t, "member"), w.tokenOf(t, "viewer")
	unknown := "01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a"
	for who, wants := range map[string]struct {
		token                       string
		token2, public, off, absent int
	}{
		"nobody":     {"", 401, 200, 401, 401},
		"a wrong":    {"wk_wrong", 401, 200, 401, 401},
		"a viewer":   {viewer, 403, 200, 403, 403},
		"a member":   {member, 200, 200, 404, 404},
		"a stranger": {stranger, 404, 200, 404, 404},
		"operator":   {w.token, 200, 200, 404, 404},
	} {
		for f, want := range map[string]int{token: wants.token2, public: wants.public, off: wants.off, unknown: wants.absent, "x": wants.absent} {
			if status, _, body := w.send(t, "GET", "/gateway/"+f+"/p", "", "Authorization", "Bearer "+wants.token); status != want {
				t.Errorf("%s at %s: %d %s, want %d", who, map[string]string{token: "token", public: "public", off: "off"}[f], status, body, want)
			}
		}
	}
	_, _, body = w.send(t, "GET", "/v1/functions/"+public, "")
	if d := decode[api.FunctionDetails](t, body); d.Gateway != "public" || d.GatewayURL != "/gateway/"+public+"/" {
		t.Errorf("it shows %q at %q", d.Gateway, d.GatewayURL)
	}
	w.send(t, "PATCH", "/v1/functions/"+public, `{"gateway":"token"}`)
	if status, _, body := w.send(t, "GET", "/gateway/"+public, "", anonymous...); status != http.StatusUnauthorized {
		t.Errorf("after it was closed: %d %s", status, body)
	}
}

func TestAFunctionGetsItsOwnCredentialsAndNoToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(t, func(event json.RawMessage) (string, *warpket.Failure) { return string(event), nil })
	token, public := w.serving(t, "token"), w.serving(t, "public")
	for _, test := range []struct{ function, sent, want string }{
		{token, "Bearer " + w.token, ""},
		{public, "Bearer " + w.token, ""},
		{public, "Basic dXNlcjpwYXNz", "Basic dXNlcjpwYXNz"},
	} {
		_, _, body := w.send(t, "GET", "/gateway/"+test.function, "", "Authorization", test.sent)
		got := decode[struct{ Headers map[string]string }](t, body)
		if got.Headers["authorization"] != test.want {
			t.Errorf("it gets %q, want %q", got.Headers["authorization"], test.want)
		}
	}
}

func TestAGatewayServesByAnAliasOfItsFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.always(t, `"served"`)
	f, other := w.serving(t, "public"), w.serving(t, "public")
	w.another(t, f)
	w.send(t, "POST", "/v1/aliases", `{"name":"old","functionId":"`+f+`","version":1}`)
	w.send(t, "POST", "/v1/aliases", `{"name":"theirs","functionId":"`+other+`","version":1}`)
	for path, want := range map[string]int{f: 2, f + "@old": 1, f + "%40old/x": 1} {
		status, header, body := w.send(t, "GET", "/gateway/"+path, "", anonymous...)
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
			continue
		}
		_, _, body = w.send(t, "GET", "/v1/executions/"+header.Get("Warpket-Execution-Id"), "")
		if e := decode[api.Execution](t, body); e.Version != want || e.FunctionID != f {
			t.Errorf("%s runs version %d", path, e.Version)
		}
	}
	for _, path := range []string{f + "@theirs", f + "@", f + "@none"} {
		if status, _, body := w.send(t, "GET", "/gateway/"+path, "", anonymous...); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestWhatIsSentThroughTheGatewayIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.always(t, `"served"`)
	f := w.serving(t, "public")
	if status, _, body := w.send(t, "POST", "/gateway/"+f, strings.Repeat("x", 6<<20), anonymous...); status != http.StatusOK {
		t.Errorf("6 MiB: %d %s", status, body)
	}
	if status, _, body := w.send(t, "POST", "/gateway/"+f, strings.Repeat("x", 6<<20+1), anonymous...); status != http.StatusRequestEntityTooLarge {
		t.Errorf("more: %d %s", status, body)
	}
	if status, _, body := w.send(t, "GET", "/gateway/"+f+"?a=%zz", "", anonymous...); status != http.StatusBadRequest {
		t.Errorf("a broken query: %d %s", status, body)
	}
}

func TestAFunctionsLaneIsTheGatewaysWhenItIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.always(t, `"served"`)
	f := w.serving(t, "public")
	for _, lane := range []string{"durable", "express"} {
		w.send(t, "PATCH", "/v1/functions/"+f, `{"lane":"`+lane+`"}`)
		_, header, _ := w.send(t, "GET", "/gateway/"+f, "", anonymous...)
		_, _, body := w.send(t, "GET", "/v1/executions/"+header.Get("Warpket-Execution-Id"), "")
		if e := decode[api.Execution](t, body); e.Lane != lane {
			t.Errorf("with the lane %s set it is %q", lane, e.Lane)
		}
	}
}
