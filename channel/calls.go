package channel

import (
	"context"
	"errors"
	"sync"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// ErrNotConnected means that the node has no connection to this server or one
// that this one knows: the call never left, nothing has started.
var ErrNotConnected = warpket.Errorf(warpket.Unavailable, "the node is not connected")

// ErrBroken means that the connection broke after the call had left: whether
// the node has acted on it is not known.
var ErrBroken = errors.New("the connection to the node broke while it was answering")

// Refused is the error of a Run that the node did not admit: the attempt has not
// started, unless an earlier Run of it was admitted.
type Refused struct{ Cause error }

func (r Refused) Error() string { return r.Cause.Error() }

func (r Refused) Unwrap() error { return r.Cause }

// connection is a way to one node: its own stream, or that of a server that it
// is connected to.
type connection struct {
	id, boot warpket.ID
	name     string
	direct   bool
	ask      func(*wire.Call) error
	slots    map[warpket.ID]Ready // that serve; guarded by the server's mu

	mu      sync.Mutex
	calls   map[uint64]*call
	dropped bool
}

type call struct {
	progress func(string)
	reply    chan *wire.Reply // one, or closed when the connection broke
}

func newConnection(id, boot warpket.ID, name string, ask func(*wire.Call) error) *connection {
	return &connection{id: id, boot: boot, name: name, ask: ask, slots: map[warpket.ID]Ready{}, calls: map[uint64]*call{}}
}

// drop fails all open calls and takes no new ones.
func (c *connection) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = true
	for id, call := range c.calls {
		close(call.reply)
		delete(c.calls, id)
	}
}

func (c *connection) replied(r *wire.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.calls[r.GetId()]; call != nil {
		delete(c.calls, r.GetId())
		call.reply <- r
	}
}

func (c *connection) progressed(p *wire.Progress) {
	c.mu.Lock()
	call := c.calls[p.GetCall()]
	c.mu.Unlock()
	if call != nil && call.progress != nil {
		call.progress(p.GetText())
	}
}

// call makes a call and waits for its reply. When ctx ends first the node goes
// on: to end an execution there is Cancel.
func (s *Server) call(ctx context.Context, node warpket.ID, in *wire.Call, progress func(string)) (*wire.Reply, error) {
	c := s.way(node)
	if c == nil {
		return nil, ErrNotConnected
	}
	pending := &call{progress: progress, reply: make(chan *wire.Reply, 1)}
	c.mu.Lock()
	if c.dropped {
		c.mu.Unlock()
		return nil, ErrNotConnected
	}
	in.Id = s.last.Add(1) // a late answer by way of a peer must not meet another call
	c.calls[in.GetId()] = pending
	c.mu.Unlock()
	if err := c.ask(in); err != nil {
		return nil, ErrBroken
	}
	select {
	case r, ok := <-pending.reply:
		if !ok {
			return nil, ErrBroken
		}
		return r, fromWire(r.GetError())
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.calls, in.GetId())
		c.mu.Unlock()
		return nil, ctx.Err()
	}
}

// Lock has a node resolve a runtime to a hashed lock.
func (s *Server) Lock(ctx context.Context, node warpket.ID, r *wire.Runtime, progress func(string)) (string, error) {
	reply, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Lock{Lock: &wire.Lock{Runtime: r}}}, progress)
	return reply.GetLock().GetLock(), err
}

// Install has a node build the environment of a locked runtime, or pull its
// image.
func (s *Server) Install(ctx context.Context, node warpket.ID, in *wire.Install, progress func(string)) error {
	_, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Install{Install: in}}, progress)
	return err
}

// Build has a node compile a version's files.
func (s *Server) Build(ctx context.Context, node warpket.ID, in *wire.Build, progress func(string)) (binary, log []byte, failed *warpket.Failure, err error) {
	reply, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Build{Build: in}}, progress)
	b := reply.GetBuild()
	return b.GetBinary(), b.GetLog(), failure(b.GetFailure()), err
}

// Prepare has a node put a worker into a slot. It gives the revision of the
// function's configuration that the slot has: an earlier one than asked for
// when an earlier call had prepared it already. It tells why the code does not
// load, if so; the slot serves all the same.
func (s *Server) Prepare(ctx context.Context, node warpket.ID, p *wire.Prepare, progress func(string)) (revision int, load *warpket.Failure, err error) {
	reply, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Prepare{Prepare: p}}, progress)
	return int(reply.GetPrepare().GetRevision()), failure(reply.GetPrepare().GetLoadFailure()), err
}

// Release has a node end all programs of a slot; with ifIdle only when no call
// runs or waits there, else it is a Conflict.
func (s *Server) Release(ctx context.Context, node, slot warpket.ID, generation int64, ifIdle bool) error {
	_, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Release{Release: &wire.Release{Slot: string(slot), Generation: generation, IfIdle: ifIdle}}}, nil)
	if err == nil {
		s.GoneSlot(slot, generation)
	}
	return err
}

// Run has a node start an attempt, at most once, and waits for its outcome.
func (s *Server) Run(ctx context.Context, node warpket.ID, r *wire.Run) (*wire.Outcome, error) {
	reply, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Run{Run: r}}, nil)
	return reply.GetOutcome(), err
}

// Attach waits for the end of an attempt that a server has had a node start.
// Meanwhile its log comes here.
func (s *Server) Attach(ctx context.Context, node, execution warpket.ID, attempt int) error {
	_, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Attach{Attach: &wire.Attach{Execution: string(execution), Attempt: int32(attempt)}}}, nil) //nolint:gosec // small
	return err
}

// Cancel has a node end an attempt. What its Run answers then is the outcome.
func (s *Server) Cancel(ctx context.Context, node, execution warpket.ID, attempt int) error {
	_, err := s.call(ctx, node, &wire.Call{What: &wire.Call_Cancel{Cancel: &wire.Cancel{Execution: string(execution), Attempt: int32(attempt)}}}, nil) //nolint:gosec // small
	return err
}

// Ack lets a node forget an outcome. It does not wait: a node that misses it
// is told again when it sends the outcome again.
func (s *Server) Ack(node, execution warpket.ID, attempt int) {
	if c := s.way(node); c != nil {
		_ = c.ask(&wire.Call{What: &wire.Call_Ack{Ack: &wire.Ack{Execution: string(execution), Attempt: int32(attempt)}}}) //nolint:gosec // small
	}
}

func failure(f *wire.Failure) *warpket.Failure {
	if f == nil {
		return nil
	}
	return &warpket.Failure{Code: warpket.FailureCode(f.GetCode()), Message: f.GetMessage(), Traceback: f.GetTraceback()}
}

// FailureOf reads why an attempt failed.
func FailureOf(o *wire.Outcome) *warpket.Failure { return failure(o.GetFailure()) }
