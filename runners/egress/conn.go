package egress

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warpket/warpket"
)

// conn is closed when it has been idle for too long. What it moves is counted
// against a budget that several may share.
type conn struct {
	net.Conn
	idle   time.Duration
	timer  *time.Timer
	budget *budget // nil: not counted
	closed func()  // called when it is closed, perhaps more than once; may be nil
}

func newConn(c net.Conn, idle time.Duration, budget *budget, closed func()) *conn {
	timer := time.AfterFunc(idle, func() { _ = shut(c, closed) })
	return &conn{Conn: c, idle: idle, timer: timer, budget: budget, closed: closed}
}

func shut(c net.Conn, closed func()) error {
	if closed != nil {
		defer closed()
	}
	return c.Close()
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.moved(n, err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.moved(n, err)
}

func (c *conn) moved(n int, err error) error {
	if n > 0 && c.timer.Stop() { // a timer that has fired has closed the connection
		c.timer.Reset(c.idle)
	}
	if spent := c.budget.spend(n); spent != nil {
		return spent
	}
	return err
}

func (c *conn) Close() error {
	c.timer.Stop()
	return shut(c.Conn, c.closed)
}

// CloseWrite tells the other side that nothing more comes.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

// budget is how many bytes may be moved.
type budget struct {
	limit int64 // zero: no bound
	used  atomic.Int64
}

func (b *budget) spend(n int) error {
	if b == nil || b.limit == 0 || b.used.Add(int64(n)) <= b.limit {
		return nil
	}
	return warpket.Errorf(warpket.OverQuota, "the %d bytes that this sandbox may send and receive are used up", b.limit)
}

// listener hands out connections that are closed when idle, and so many at a
// time: who comes then waits.
type listener struct {
	net.Listener
	idle   time.Duration
	places chan struct{}
	closed <-chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	leave := sync.OnceFunc(func() { <-l.places })
	c, err := l.Listener.Accept()
	if err != nil {
		leave()
		return nil, err
	}
	return newConn(c, l.idle, nil, leave), nil
}

// join copies between two connections until both directions have ended, one
// has failed, or ctx has ended, and closes both.
func join(ctx context.Context, a, b net.Conn, fromA io.Reader) {
	closeBoth := func() {
		_ = a.Close()
		_ = b.Close()
	}
	defer closeBoth()
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()

	var both sync.WaitGroup
	both.Go(func() { pass(b, fromA, closeBoth) })
	both.Go(func() { pass(a, b, closeBoth) })
	both.Wait()
}

// pass copies to the end and passes on that it is the end.
func pass(to net.Conn, from io.Reader, failed func()) {
	_, err := io.Copy(to, from)
	if err != nil || closeWrite(to) != nil {
		failed()
	}
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
