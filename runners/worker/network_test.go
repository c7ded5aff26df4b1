package worker_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/worker"
)

const fetch = `
import urllib.request
def handler(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
`

func TestAFunctionReachesTheNetworkByTheProxyOnly(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(service.Close)
	_, text, _ := net.SplitHostPort(service.Listener.Addr().String())
	port, _ := strconv.ParseUint(text, 10, 16)
	proxy := func(allow ...netip.Prefix) *egress.Proxy {
		p, err := egress.New(egress.Config{
			Policy: egress.Policy{Public: true, Ports: []uint16{uint16(port)}},
			Guard:  egress.Guard{Allow: allow},
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	tests := map[string]struct {
		proxy     *egress.Proxy
		host      string
		want      warpket.Status
		traceback string
	}{
		"what the proxy allows":              {proxy(loopback), "service.example", warpket.Succeeded, ""},
		"what it does not":                   {proxy(), "service.example", warpket.Failed, "HTTP Error 403"},
		"not beside it":                      {proxy(loopback), "127.0.0.1", warpket.Failed, "Connection refused"},
		"nothing, if it did not ask for any": {nil, "127.0.0.1", warpket.Failed, "Connection refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, startWith := range map[string]func(testing.TB, worker.Config) *worker.Worker{"sandboxed": startSandboxed, "parked": startParked} {
				t.Run(way, func(t *testing.T) {
					t.Parallel()
					config := configFor(t, fetch)
					config.Egress = test.proxy
					w := loaded(t, startWith(t, config))
					got := w.Run(t.Context(), call(`{"url": "http://`+net.JoinHostPort(test.host, text)+`/"}`), nil)
					if got.Status != test.want || test.want == warpket.Succeeded && string(got.Result) != `"hello"` {
						t.Fatalf("%s %s %+v", got.Status, got.Result, got.Failure)
					}
					if got.Failure != nil && !strings.Contains(got.Failure.Traceback+got.Failure.Message, test.traceback) {
						t.Errorf("%s", got.Failure.Traceback)
					}
				})
			}
		})
	}
}
