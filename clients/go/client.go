// Package client is the Go client of warpket's API. Types and methods are
// generated from the API's OpenAPI document; New makes a client whose errors
// are Problems.
//
//	c, err := client.New("http://127.0.0.1:8080", token)
//	r, err := c.GetFunctionWithResponse(ctx, id)
//	fmt.Println(r.JSON200.FunctionName)
package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// New makes a client for the API at a URL such as http://127.0.0.1:8080, which
// sends a token with each request. Every answer from status 400 on becomes an
// error that is a *Problem.
func New(address, token string) (*ClientWithResponses, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of a server: write it like http://127.0.0.1:8080", address)
	}
	return NewClientWithResponses(address, WithHTTPClient(doer{token}))
}

// doer sends requests with a token and makes errors of refusals.
type doer struct{ token string }

func (d doer) Do(r *http.Request) (*http.Response, error) {
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode < http.StatusBadRequest {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, problemOf(resp)
}

// Error is what is wrong, for people.
func (p *Problem) Error() string { return cmp.Or(p.Detail, p.Title) }

// largest is how much of a refusal is read.
const largest = 1 << 20

// problemOf reads the Problem of an answer. What stands between client and
// server answers in other forms; of those the text is kept.
func problemOf(resp *http.Response) *Problem {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, largest)) // what has come is all there is to tell
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "application/problem+json" && json.Unmarshal(body, p) == nil && p.Code != "" {
		return p
	}
	return &Problem{
		Type: "about:blank", Title: http.StatusText(resp.StatusCode), Status: int64(resp.StatusCode), Code: codes[resp.StatusCode],
		Detail: strings.TrimSpace("the answer was " + resp.Status + " " + firstLine(body)), Errors: []ProblemPart{},
	}
}

// codes are the codes of answers that are no Problem, by status.
var codes = map[int]ProblemCode{
	http.StatusBadRequest:         ProblemCodeMalformed,
	http.StatusUnauthorized:       ProblemCodeUnauthenticated,
	http.StatusForbidden:          ProblemCodeDenied,
	http.StatusNotFound:           ProblemCodeNotFound,
	http.StatusTooManyRequests:    ProblemCodeOverQuota,
	http.StatusBadGateway:         ProblemCodeUnavailable,
	http.StatusServiceUnavailable: ProblemCodeUnavailable,
	http.StatusGatewayTimeout:     ProblemCodeUnavailable,
}

// firstLine is the beginning of a text, and nothing of a page or of bytes.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(string(body), "\n")
	if len(line) > 200 || strings.HasPrefix(line, "<") || !utf8.ValidString(line) {
		return ""
	}
	return strings.TrimSpace(line)
}
