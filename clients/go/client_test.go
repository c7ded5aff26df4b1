package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	client "github.com/warpket/warpket/clients/go"
)

func TestAnErrorIsAProblem(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status            int
		contentType, body string
		code              client.ProblemCode
		message           string
	}{
		"a problem keeps its code and detail": {
			404, "application/problem+json", `{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"there is no function \"x\"","errors":[]}`,
			client.ProblemCodeNotFound, `there is no function "x"`,
		},
		"a proxy's page gets a code by its status":      {502, "text/html", "<html>Bad Gateway</html>", client.ProblemCodeUnavailable, "the answer was 502 Bad Gateway"},
		"a line of text is told":                        {500, "text/plain", "no space left\n", "", "the answer was 500 Internal Server Error no space left"},
		"a problem without a code is one by its status": {403, "application/problem+json", `{}`, client.ProblemCodeDenied, "the answer was 403 Forbidden {}"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer wk_1_2" {
					t.Errorf("Authorization: %q", got)
				}
				w.Header().Set("Content-Type", test.contentType)
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			c, err := client.New(server.URL, "wk_1_2")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.GetFunctionWithResponse(t.Context(), "x")
			p, ok := errors.AsType[*client.Problem](err)
			if !ok {
				t.Fatalf("no Problem: %v", err)
			}
			if p.Code != test.code || p.Error() != test.message || int(p.Status) != test.status {
				t.Errorf("got %d %q %q", p.Status, p.Code, p.Error())
			}
		})
	}
}

func TestAnAddressWithoutASchemeIsRefused(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8080", "localhost:8080", "ftp://host", "http://"} {
		if _, err := client.New(address, ""); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

func TestEventsAreReadHoweverTheyAreSplit(t *testing.T) {
	t.Parallel()
	const body = "retry: 10\n\n: a comment\n\nid: 5\nevent: log\ndata: {\"text\":\"a: b\"}\n\n" +
		"event: log\r\ndata:one\r\ndata: two\r\n\r\nevent: nothing\n\ndata\n\nevent: end\ndata: {}\n\nevent: cut\ndata: short"
	want := []client.Event{
		{ID: "5", Name: "log", Data: []byte(`{"text":"a: b"}`)},
		{ID: "5", Name: "log", Data: []byte("one\ntwo")},
		{ID: "5"},
		{ID: "5", Name: "end", Data: []byte("{}")},
	}
	readers := map[string]io.Reader{
		"at once":               strings.NewReader(body),
		"byte by byte":          iotest.OneByteReader(strings.NewReader(body)),
		"in halves":             iotest.HalfReader(strings.NewReader(body)),
		"with the end and data": iotest.DataErrReader(strings.NewReader(body)),
	}
	for name, r := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []client.Event
			for e, err := range client.Events(r) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAStreamThatBreaksOffSaysSo(t *testing.T) {
	t.Parallel()
	broken := errors.New("reset")
	var got error
	for _, err := range client.Events(io.MultiReader(strings.NewReader("data: 1\n\n"), iotest.ErrReader(broken))) {
		got = err
	}
	if !errors.Is(got, broken) {
		t.Errorf("got %v", got)
	}
}
