package egress

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Forward passes the connections of a listener on to a unix socket until ctx
// ends. It runs inside the sandbox, where programs speak TCP to 127.0.0.1 and
// the socket is the only way out.
func Forward(ctx context.Context, listener net.Listener, socket string) error {
	var open sync.WaitGroup
	defer open.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		inner, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting connections for %s: %w", socket, err)
		}
		open.Go(func() {
			outer, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			if err != nil {
				_ = inner.Close()
				return
			}
			join(ctx, inner, outer, inner)
		})
	}
}
