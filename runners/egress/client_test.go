package egress_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
)

func TestRequestsOfTheNodeGoWhereTheGuardAllows(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	proxy, err := egress.New(egress.Config{Guard: loopback, Policy: egress.Policy{Hosts: []string{"in.example"}, Ports: ports(t, server.URL)}, Resolve: answer("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(proxy)
	t.Cleanup(upstream.Close)
	direct := &http.Client{Transport: loopback.Transport(nil)}
	through := &http.Client{Transport: egress.Guard{}.Transport(parse(t, upstream.URL))}
	past := &http.Client{Transport: loopback.Transport(parse(t, "http://proxy.example:1"))}
	tests := map[string]struct {
		client *http.Client
		url    string
		want   warpket.Kind
	}{
		"an allowed address":                {direct, server.URL, ""},
		"another one":                       {direct, at(t, server.URL, "127.0.0.2"), warpket.Denied},
		"a redirect to another one":         {direct, server.URL + "/?to=" + url.QueryEscape("http://127.0.0.2/"), warpket.Denied},
		"a redirect in another notation":    {direct, server.URL + "/?to=" + url.QueryEscape("http://0x7f.1/"), warpket.Invalid},
		"by a proxy":                        {through, at(t, server.URL, "in.example"), ""},
		"by a proxy, an address":            {through, server.URL, warpket.Denied},
		"by a proxy, a redirect":            {through, at(t, server.URL, "in.example") + "/?to=" + url.QueryEscape("http://169.254.169.254/"), warpket.Denied},
		"past a proxy, an allowed address":  {past, server.URL, ""},
		"by a proxy, this machine, by name": {through, at(t, server.URL, "LOCALHOST"), warpket.Denied},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, err := test.client.Get(test.url)
			if warpket.KindOf(err) != test.want {
				t.Errorf("error %v", err)
			}
			if err == nil {
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("%s", response.Status)
				}
			}
		})
	}
	if _, err := direct.Get(strings.Replace(server.URL, "http", "ftp", 1)); err == nil { //nolint:bodyclose // there is none
		t.Error("another scheme was taken")
	}
}
