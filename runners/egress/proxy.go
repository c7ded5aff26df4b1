// Package egress lets the programs of a sandbox reach the network as far as
// they may. A sandbox has no network but its own loopback, on which its node
// listens and runs a Proxy. Programs find it as an HTTP proxy, by HTTP_PROXY
// and HTTPS_PROXY.
package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/warpket/warpket"
)

// Config says what a proxy allows.
type Config struct {
	Policy Policy
	Guard  Guard
	Limits Limits
	// Resolve looks up the addresses of a name; nil: the machine's resolver,
	// without its search domains.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Upstream is the proxy by which this machine reaches the network, if it
	// needs one: http or https, with user and password if asked for. It then
	// looks up names, so that only the policy's hosts and ports hold for them;
	// the Guard sees addresses that are given as such. It must itself keep
	// strangers from the networks that it can reach.
	Upstream *url.URL
}

// Limits are what one sandbox may use.
type Limits struct {
	Connections int           // in use at a time; zero: 64
	Idle        time.Duration // after which a connection is closed; zero: 5 minutes
	Bytes       int64         // sent and received in all; zero: no bound
}

// Proxy is an HTTP proxy for one sandbox. It speaks CONNECT, which carries
// TLS, and plain HTTP.
type Proxy struct {
	config  Config
	busy    chan struct{}
	budget  *budget
	dialer  *net.Dialer
	forward *httputil.ReverseProxy
}

const (
	maxHeader     = 32 << 10
	headerTimeout = 10 * time.Second
)

// New makes a proxy.
func New(config Config) (*Proxy, error) {
	policy, err := config.Policy.normal()
	if err != nil {
		return nil, err
	}
	config.Policy = policy
	if u := config.Upstream; u != nil && (u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "") {
		return nil, warpket.Errorf(warpket.Invalid, "the proxy of this machine must be given as http://host:port or https://host:port, not as %s", u.Redacted())
	}
	if config.Limits.Connections <= 0 {
		config.Limits.Connections = 64
	}
	if config.Limits.Idle <= 0 {
		config.Limits.Idle = 5 * time.Minute
	}
	if config.Resolve == nil {
		config.Resolve = resolve
	}
	p := &Proxy{
		config: config,
		busy:   make(chan struct{}, config.Limits.Connections),
		budget: &budget{limit: config.Limits.Bytes},
		dialer: config.Guard.Dialer(),
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			t, err := targetOf(address, 0)
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, t)
		},
		DisableCompression:     true,
		DisableKeepAlives:      true, // a request that finds its connection closed cannot always be sent again
		MaxResponseHeaderBytes: 2 * maxHeader,
	}
	if config.Upstream != nil {
		transport.Proxy = http.ProxyURL(config.Upstream)
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dialUpstream(ctx) }
	}
	p.forward = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.RawQuery = r.In.URL.RawQuery }, // as it was sent
		Transport:     transport,
		FlushInterval: -1, // what is sent is passed on at once
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { refuse(w, r, unreachable(r.URL.Host, err)) },
	}
	return p, nil
}

// resolve asks for the name as it stands: a search domain would make a name
// that the policy has not seen of it.
func resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	return (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip", name+".")
}

// Serve serves the listener until ctx ends, which also ends what goes through it.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // strangers decide what would stand there
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener{
		Listener: l,
		idle:     p.config.Limits.Idle,
		places:   make(chan struct{}, 2*p.config.Limits.Connections), // those that are open but not in use are bounded too
		closed:   ctx.Done(),
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serving the network of a sandbox: %w", err)
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	default:
		refuse(w, r, warpket.Errorf(warpket.OverQuota, "%d connections are open already, the most that a sandbox may have: close one", cap(p.busy)))
		return
	}
	t, err := p.targetOf(r)
	if err == nil {
		err = p.check(t)
	}
	if err != nil {
		refuse(w, r, err)
		return
	}
	if r.Method == http.MethodConnect {
		p.tunnel(w, r, t)
		return
	}
	r.URL.Host = t.String()
	p.forward.ServeHTTP(w, r)
}

func (*Proxy) targetOf(r *http.Request) (target, error) {
	switch {
	case r.Method == http.MethodConnect:
		return targetOf(r.RequestURI, 0)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		return targetOf(r.URL.Host, 80)
	case r.URL.IsAbs():
		return target{}, warpket.Errorf(warpket.Invalid, "this proxy asks for http addresses; use CONNECT for others")
	}
	return target{}, warpket.Errorf(warpket.Invalid, "this is a proxy: name the host, as in GET http://example.org/ or CONNECT example.org:443")
}

// check decides what can be decided before a name is looked up.
func (p *Proxy) check(t target) error {
	if err := p.budget.spend(0); err != nil {
		return err
	}
	if err := p.config.Policy.check(t); err != nil {
		return err
	}
	return p.config.Guard.checkHost(t.host, t.addr)
}

// tunnel connects the program with its target and copies between them.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request, t target) {
	connect := p.dial
	if p.config.Upstream != nil {
		connect = p.dialThrough
	}
	outer, err := connect(r.Context(), t)
	if err != nil {
		refuse(w, r, unreachable(t.String(), err))
		return
	}
	inner, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = outer.Close()
		return
	}
	if _, err := io.WriteString(inner, "HTTP/1.1 200 Connected\r\n\r\n"); err != nil {
		_ = inner.Close()
		_ = outer.Close()
		return
	}
	// The server's own reader would end the context with the program's stream.
	early := io.LimitReader(buffered, int64(buffered.Reader.Buffered()))
	join(r.Context(), inner, outer, io.MultiReader(early, inner))
}

// dial looks a name up once and dials what was found, as far as it may.
func (p *Proxy) dial(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	addrs := []netip.Addr{t.addr}
	if !t.addr.IsValid() {
		var err error
		if addrs, err = p.config.Resolve(ctx, t.host); err != nil {
			return nil, err
		}
	}
	err := error(&net.DNSError{Err: "no addresses", Name: t.host, IsNotFound: true})
	for _, addr := range addrs {
		var c net.Conn
		c, err = p.dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(addr.Unmap(), t.port).String())
		if err == nil {
			return newConn(c, p.config.Limits.Idle, p.budget, nil), nil
		}
	}
	return nil, err
}

// unreachable says why a target was not reached. What a stranger cannot use,
// such as the address of our resolver, is left out.
func unreachable(host string, err error) error {
	if known, ok := errors.AsType[*warpket.Error](err); ok {
		return known
	}
	reason := "the connection failed"
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		reason = "its name could not be looked up; try again"
		if dns.IsNotFound {
			reason = "there is no such name"
		}
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		reason = errno.Error()
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		reason = "it did not answer in time"
	}
	return warpket.Because(warpket.Unavailable, err, "%s cannot be reached: %s", host, reason)
}

// refuse answers with the error. Programs show of the answer to CONNECT at
// most its status line, so the text stands there too.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusBadGateway, "the proxy failed"
	if known, ok := errors.AsType[*warpket.Error](err); ok {
		text = known.Message
		switch known.Kind {
		default:
		case warpket.Denied:
			status = http.StatusForbidden
		case warpket.Invalid:
			status = http.StatusBadRequest
		case warpket.OverQuota:
			status = http.StatusTooManyRequests
		}
	}
	if r.Method != http.MethodConnect {
		http.Error(w, text, status)
		return
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	answer := &http.Response{
		ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Status:        fmt.Sprintf("%d %s", status, text),
		StatusCode:    status,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body:          io.NopCloser(strings.NewReader(text + "\n")),
		ContentLength: int64(len(text)) + 1,
	}
	_ = answer.Write(c) // a program that has left needs no answer
}
