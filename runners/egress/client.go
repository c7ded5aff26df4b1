package egress

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Transport is for requests of the node's own to hosts that strangers name: it
// dials only what the guard allows, wherever redirects lead. With an upstream
// proxy the names are that one's to look up and to refuse; see Config.
// Addresses that are allowed as the operator's own are dialled all the same.
func (g Guard) Transport(upstream *url.URL) http.RoundTripper {
	dial := g.Dialer().DialContext
	t := &http.Transport{
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    connectTimeout,
		ResponseHeaderTimeout:  time.Minute,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 2 * maxHeader,
	}
	if upstream != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			if addr, err := netip.ParseAddr(r.URL.Hostname()); err == nil && g.allows(addr.Unmap()) {
				return nil, nil //nolint:nilnil // the operator's own networks are not behind it
			}
			return upstream, nil
		}
		dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newConn(c, time.Minute, nil, nil), nil
	}
	return guarded{g, t}
}

type guarded struct {
	guard     Guard
	transport *http.Transport
}

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	host, addr, err := hostOf(r.URL.Hostname())
	if err == nil {
		err = g.guard.checkHost(host, addr)
	}
	if err != nil {
		return nil, err
	}
	return g.transport.RoundTrip(r)
}

// CloseIdleConnections is what http.Client looks for.
func (g guarded) CloseIdleConnections() { g.transport.CloseIdleConnections() }

// checkHost checks what can be checked before a name is looked up.
func (g Guard) checkHost(host string, addr netip.Addr) error {
	if !addr.IsValid() && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if !addr.IsValid() {
		return nil
	}
	return g.Check(addr)
}
