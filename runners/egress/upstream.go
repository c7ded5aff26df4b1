package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"

	"github.com/warpket/warpket"
)

// dialUpstream connects to the machine's proxy, which the Guard has no say in.
func (p *Proxy) dialUpstream(ctx context.Context) (net.Conn, error) {
	u := p.config.Upstream
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	c, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "the proxy of this node cannot be reached")
	}
	return newConn(c, p.config.Limits.Idle, p.budget, nil), nil
}

// dialThrough asks the machine's proxy for a connection to the target.
func (p *Proxy) dialThrough(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	c, err := p.dialUpstream(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if p.config.Upstream.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: p.config.Upstream.Hostname(), MinVersion: tls.VersionTLS12})
	}
	reader, err := connectThrough(c, p.config.Upstream.User, t)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return bufferedConn{c, reader}, nil
}

func connectThrough(c net.Conn, user *url.Userinfo, t target) (*bufio.Reader, error) {
	failed := func(err error) error {
		return warpket.Because(warpket.Unavailable, err, "the proxy of this node did not connect to %s", t)
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: t.String()}, Host: t.String(), Header: http.Header{}}
	if user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(c); err != nil {
		return nil, failed(err)
	}
	head := &io.LimitedReader{R: c, N: 2 * maxHeader}
	reader := bufio.NewReader(head)
	response, err := http.ReadResponse(reader, request) //nolint:bodyclose // after a 200 the body is what the program reads
	if err != nil {
		return nil, failed(err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, warpket.Errorf(warpket.Unavailable, "the proxy of this node did not connect to %s: it answered %d", t, response.StatusCode)
	}
	head.N = math.MaxInt64 // from here on it is the program's
	return reader, nil
}

// bufferedConn is a connection of which some has been read already.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// CloseWrite tells the other side that nothing more comes.
func (c bufferedConn) CloseWrite() error { return closeWrite(c.Conn) }
