package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
)

// loopback lets tests reach their own servers, and only at this one address.
var loopback = egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}

func TestProgramsReachWhatTheyMay(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(echo))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())

	names := egress.Config{Guard: loopback, Resolve: answer("127.0.0.1")}
	listed := names
	listed.Policy = egress.Policy{Hosts: []string{"Example.com", "*.example.org", "127.0.0.1"}, Ports: ports(t, plain.URL, secure.URL)}
	public := names
	public.Policy = egress.Policy{Public: true, Ports: ports(t, plain.URL, secure.URL)}
	tests := map[string]struct {
		config egress.Config
		host   string
	}{
		"a listed name":         {listed, "example.com"},
		"a name in other case":  {listed, "EXAMPLE.com"},
		"a name in full":        {listed, "example.com."},
		"a name below a suffix": {listed, "a.b.example.org"},
		"a listed address":      {listed, "127.0.0.1"},
		"any name":              {public, "example.net"},
		"any address":           {public, "127.0.0.1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := client(t, test.config, roots)
			for _, server := range []*httptest.Server{plain, secure} {
				u := at(t, server.URL, test.host)
				status, body := post(t, client, u+"/path?q=1;2", "hello")
				if want := "POST /path?q=1;2 hello"; status != http.StatusOK || body != want {
					t.Errorf("%s: %d %q, want %q", u, status, body, want)
				}
			}
		})
	}
}

func TestWhatAProgramMayNotReachIsRefusedWithWhatWouldWork(t *testing.T) {
	t.Parallel()
	listed := egress.Policy{Hosts: []string{"example.com", "*.example.org"}}
	public := egress.Policy{Public: true}
	tests := map[string]struct {
		policy  egress.Policy
		resolve string
		url     string // http:// is asked for as it is, tcp:// by CONNECT
		status  int
		text    string
	}{
		"a name that is not listed":   {listed, "", "tcp://example.net:443", 403, "example.net may not be reached; allowed: example.com, *.example.org"},
		"the suffix itself":           {listed, "", "tcp://example.org:443", 403, "example.org may not be reached"},
		"a name that ends alike":      {listed, "", "http://notexample.org/", 403, "notexample.org may not be reached"},
		"an address that is no name":  {listed, "", "http://1.1.1.1/", 403, "1.1.1.1 may not be reached"},
		"an empty list":               {egress.Policy{}, "", "http://1.1.1.1/", 403, "1.1.1.1 may not be reached; no host is allowed"},
		"a port":                      {public, "", "tcp://1.1.1.1:22", 403, "port 22 may not be reached; allowed: 80, 443"},
		"a name of a private address": {public, "10.0.0.1", "http://example.com/", 403, "10.0.0.1 is not a public address"},
		"a name of the metadata":      {public, "169.254.169.254", "tcp://example.com:80", 403, "169.254.169.254 is not a public address"},
		"a mapped private address":    {public, "::ffff:192.168.0.1", "tcp://example.com:80", 403, "192.168.0.1 is not a public address"},
		"a listed, private name":      {listed, "127.0.0.2", "tcp://example.com:80", 403, "127.0.0.2 is not a public address"},
		"a name without addresses":    {public, "", "tcp://example.com:80", 502, "example.com:80 cannot be reached: there is no such name"},
		"localhost":                   {public, "", "tcp://localhost:80", 403, "127.0.0.1 is not a public address"},
		"below localhost":             {public, "", "tcp://a.localhost.:80", 403, "127.0.0.1 is not a public address"},
		"loopback":                    {public, "", "tcp://127.0.0.1:80", 403, "127.0.0.1 is not a public address"},
		"loopback, short":             {public, "127.0.0.1", "tcp://127.1:80", 400, "write four decimal numbers"},
		"loopback, hexadecimal":       {public, "127.0.0.1", "http://0x7f.1/", 400, "write four decimal numbers"},
		"loopback, octal":             {public, "127.0.0.1", "http://0177.0.0.1/", 400, "write four decimal numbers"},
		"loopback, one number":        {public, "127.0.0.1", "tcp://2130706433:80", 400, "write four decimal numbers"},
		"loopback, one hexadecimal":   {public, "127.0.0.1", "tcp://0x7F000001:80", 400, "write four decimal numbers"},
		"loopback, mapped":            {public, "", "tcp://[::ffff:127.0.0.1]:80", 403, "127.0.0.1 is not a public address"},
		"loopback, mapped, in hex":    {public, "", "http://[::ffff:7f00:1]/", 403, "127.0.0.1 is not a public address"},
		"loopback by NAT64":           {public, "", "tcp://[64:ff9b::7f00:1]:80", 403, "is not a public address"},
		"a zone":                      {public, "", "tcp://[fe80::1%25eth0]:80", 400, "is not the name of a host"},
		"no port":                     {public, "", "tcp://example.com", 400, "use host:port"},
		"a port that is none":         {public, "", "tcp://example.com:65536", 400, "use a number from 1 to 65535"},
		"a name that is none":         {public, "", "tcp://exa!mple:80", 400, "is not the name of a host"},
		"another scheme":              {public, "", "ftp://example.com/", 400, "use CONNECT for others"},
		"no host":                     {public, "", "/path", 400, "this is a proxy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := egress.Config{Policy: test.policy, Resolve: answer(test.resolve)}
			request := "GET " + test.url + " HTTP/1.1\r\nHost: other.example\r\n\r\n"
			if authority, ok := strings.CutPrefix(test.url, "tcp://"); ok {
				request = "CONNECT " + authority + " HTTP/1.1\r\nHost: example.com\r\n\r\n"
			}
			status, body := raw(t, serve(t, config), request)
			if status != test.status || !strings.Contains(body, test.text) {
				t.Errorf("%d %q, want %d %q", status, body, test.status, test.text)
			}
		})
	}
}

func TestTheStatusLineOfARefusedTunnelSaysWhy(t *testing.T) {
	t.Parallel()
	// What Python, Go and others show of the answer to CONNECT.
	_, err := client(t, egress.Config{}, nil).Get("https://example.com/") //nolint:bodyclose // there is none
	if err == nil || !strings.Contains(err.Error(), "example.com may not be reached; no host is allowed") {
		t.Errorf("error %v", err)
	}
}

func TestANameThatChangesItsAddressIsDialledWhereItWasChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(server.Close)
	var mu sync.Mutex
	asked := 0
	config := egress.Config{
		Guard:  loopback,
		Policy: egress.Policy{Public: true, Ports: ports(t, server.URL)},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if asked == 1 {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil
		},
	}
	client := client(t, config, nil)
	u := at(t, server.URL, "rebinding.example")
	if status, body := post(t, client, u, ""); status != http.StatusOK || asked != 1 {
		t.Fatalf("%d %q after asking %d times", status, body, asked)
	}
	if status, body := post(t, client, u, ""); status != http.StatusForbidden || asked != 2 || !strings.Contains(body, "127.0.0.2 is not a public") {
		t.Errorf("%d %q after asking %d times", status, body, asked)
	}
}

func TestARedirectIsCheckedLikeAnyOtherRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.RedirectHandler("http://127.0.0.2/latest/meta-data", http.StatusFound))
	t.Cleanup(server.Close)
	config := egress.Config{Guard: loopback, Policy: egress.Policy{Public: true, Ports: append(ports(t, server.URL), 80)}}
	response, err := client(t, config, nil).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden || response.Request.URL.Host != "127.0.0.2" {
		t.Errorf("%s from %s", response.Status, response.Request.URL)
	}
}

func TestAHostThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	config := egress.Config{Guard: loopback, Policy: egress.Policy{Public: true, Ports: ports(t, gone.URL)}, Resolve: answer("127.0.0.1")}
	status, body := post(t, client(t, config, nil), at(t, gone.URL, "example.com"), "")
	if status != http.StatusBadGateway || !strings.Contains(body, "cannot be reached: connection refused") || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %q", status, body)
	}
}

func TestTunnelsEndOneDirectionAtATime(t *testing.T) {
	t.Parallel()
	server := tcp(t, func(c net.Conn) {
		sent, _ := io.ReadAll(c) // to the end of what the program sends
		_, _ = fmt.Fprintf(c, "got %d bytes", len(sent))
	})
	config := egress.Config{Guard: loopback, Policy: egress.Policy{Public: true, Ports: []uint16{server.Port()}}}
	c, reader := connect(t, serve(t, config), server.String())
	if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(reader); err != nil || string(answer) != "got 1048576 bytes" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	server := tcp(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	config := egress.Config{
		Guard:  loopback,
		Policy: egress.Policy{Public: true, Ports: []uint16{server.Port()}},
		Limits: egress.Limits{Connections: 1},
	}
	address := serve(t, config)
	first, _ := connect(t, address, server.String())
	status, body := raw(t, address, "CONNECT "+server.String()+" HTTP/1.1\r\nHost: a\r\n\r\n")
	if status != http.StatusTooManyRequests || !strings.Contains(body, "1 connections are open already") {
		t.Errorf("%d %q", status, body)
	}
	second := dial(t, address) // in use by nobody
	third := dial(t, address)  // waits for one of the two to be closed
	_ = first.Close()
	for _, c := range []net.Conn{second, third} {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%q, %v", answer, err)
		}
	}
}

func TestIdleTunnelsAreClosed(t *testing.T) {
	t.Parallel()
	server := tcp(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	config := egress.Config{
		Guard:  loopback,
		Policy: egress.Policy{Public: true, Ports: []uint16{server.Port()}},
		Limits: egress.Limits{Idle: 50 * time.Millisecond},
	}
	_, reader := connect(t, serve(t, config), server.String())
	if _, err := reader.ReadByte(); err == nil {
		t.Error("something was read")
	}
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	server := tcp(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	config := egress.Config{
		Guard:  loopback,
		Policy: egress.Policy{Public: true, Ports: []uint16{server.Port()}},
		Limits: egress.Limits{Bytes: 1000},
	}
	address := serve(t, config)
	c, reader := connect(t, address, server.String())
	_, _ = c.Write(make([]byte, 2000)) // may be cut off
	if n, _ := io.Copy(io.Discard, reader); n > 1000 {
		t.Errorf("%d bytes came back", n)
	}
	status, body := raw(t, address, "CONNECT "+server.String()+" HTTP/1.1\r\nHost: a\r\n\r\n")
	if status != http.StatusTooManyRequests || !strings.Contains(body, "1000 bytes") {
		t.Errorf("%d %q", status, body)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	status, _ := raw(t, serve(t, egress.Config{}), "GET http://example.com/ HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", status)
	}
}

func TestTheMachinesOwnProxyIsUsedWhereThereIsOne(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(echo))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())

	// The machine's proxy is one of ours, which asks for a password.
	machine, err := egress.New(egress.Config{Guard: loopback, Policy: egress.Policy{Hosts: []string{"in.example"}, Ports: ports(t, plain.URL, secure.URL)}, Resolve: answer("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic bWU6c2VjcmV0" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		machine.ServeHTTP(w, r)
	}))
	t.Cleanup(upstream.Close)
	chained := func(user *url.Userinfo) egress.Config {
		u := parse(t, upstream.URL)
		u.User = user
		return egress.Config{
			Policy:   egress.Policy{Hosts: []string{"in.example", "out.example", "127.0.0.1", "localhost"}, Ports: ports(t, plain.URL, secure.URL)},
			Upstream: u,
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				return nil, errors.New("the machine's proxy looks names up")
			},
		}
	}
	good := chained(url.UserPassword("me", "secret"))
	program := client(t, good, roots)
	for _, server := range []*httptest.Server{plain, secure} {
		if status, body := post(t, program, at(t, server.URL, "in.example")+"/x", "hi"); status != http.StatusOK || body != "POST /x hi" {
			t.Errorf("%d %q", status, body)
		}
	}
	refused := map[string]struct {
		config      egress.Config
		host        string
		status      int
		explanation string
	}{
		"a host that the policy has not":    {good, "example.com", 403, "example.com may not be reached"},
		"an address that is not public":     {good, "127.0.0.1", 403, "127.0.0.1 is not a public address"},
		"the machine itself":                {good, "localhost", 403, "127.0.0.1 is not a public address"},
		"what the machine's proxy refuses":  {good, "out.example", 502, "it answered 403"},
		"everything, with a wrong password": {chained(url.UserPassword("me", "wrong")), "in.example", 502, "it answered 407"},
		"everything, without the password":  {chained(nil), "in.example", 502, "it answered 407"},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authority := net.JoinHostPort(test.host, parse(t, secure.URL).Port())
			status, body := raw(t, serve(t, test.config), "CONNECT "+authority+" HTTP/1.1\r\nHost: a\r\n\r\n")
			if status != test.status || !strings.Contains(body, test.explanation) || strings.Contains(body, "wrong") {
				t.Errorf("%d %q", status, body)
			}
		})
	}
}

func TestAProxyThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]egress.Config{
		"a host with a port":         {Policy: egress.Policy{Hosts: []string{"example.com:443"}}},
		"a suffix without a dot":     {Policy: egress.Policy{Hosts: []string{"*example.com"}}},
		"a star alone":               {Policy: egress.Policy{Hosts: []string{"*"}}},
		"a suffix of an address":     {Policy: egress.Policy{Hosts: []string{"*.10.0.0.1"}}},
		"an upstream without a host": {Upstream: &url.URL{Scheme: "http"}},
		"an upstream of SOCKS":       {Upstream: &url.URL{Scheme: "socks5", Host: "127.0.0.1:1080"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := egress.New(config); warpket.KindOf(err) != warpket.Invalid {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServeEndsWhatGoesThroughIt(t *testing.T) {
	t.Parallel()
	server := tcp(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	proxy, err := egress.New(egress.Config{Guard: loopback, Policy: egress.Policy{Public: true, Ports: []uint16{server.Port()}}})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, l) }()
	_, reader := connect(t, l.Addr().String(), server.String())
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := reader.ReadByte(); err == nil {
		t.Error("the tunnel is still open")
	}
}

// echo answers with what was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

// answer makes a resolver that knows one address, or none.
func answer(address string) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, name string) ([]netip.Addr, error) {
		if address == "" {
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr(address)}, nil
	}
}

// serve runs a proxy and returns its address.
func serve(t *testing.T, config egress.Config) string {
	t.Helper()
	proxy, err := egress.New(config)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	go func() { _ = proxy.Serve(t.Context(), l) }()
	return l.Addr().String()
}

// client makes a client that reaches the proxy as a program in a sandbox does.
func client(t *testing.T, config egress.Config, roots *x509.CertPool) *http.Client {
	t.Helper()
	address := serve(t, config)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: address}),
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t *testing.T, client *http.Client, u, body string) (int, string) {
	t.Helper()
	response, err := client.Post(u, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// raw sends a request as it stands.
func raw(t *testing.T, address, request string) (int, string) {
	t.Helper()
	return exchange(t, dial(t, address), request)
}

func exchange(t *testing.T, c net.Conn, request string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// connect opens a tunnel.
func connect(t *testing.T, address, authority string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := dial(t, address)
	if _, err := io.WriteString(c, "CONNECT "+authority+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(c)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it is the tunnel
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %s", response.Status)
	}
	return c, reader
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// tcp runs a server and returns its address.
func tcp(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// at is the address of a server by another name.
func at(t *testing.T, server, host string) string {
	t.Helper()
	u := parse(t, server)
	u.Host = net.JoinHostPort(host, u.Port())
	return u.String()
}

func ports(t *testing.T, servers ...string) []uint16 {
	t.Helper()
	var ports []uint16
	for _, server := range servers {
		port, err := strconv.ParseUint(parse(t, server).Port(), 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, uint16(port))
	}
	slices.Sort(ports)
	return ports
}
