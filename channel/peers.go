package channel

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// peer is a server that calls nodes through this one.
type peer struct {
	stream  wire.Channel_PeerServer
	sending sync.Mutex
	news    chan *wire.FromPeer // of nodes; a peer that does not keep up is dropped
	lagging context.CancelFunc
}

// relay names an attempt on a node.
type relay struct {
	node, execution warpket.ID
	attempt         int32
}

func (p *peer) send(m *wire.FromPeer) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.stream.Send(m)
}

// Peer serves another server: it tells of the nodes that are connected here,
// and passes its calls on to them.
func (s *Server) Peer(stream wire.Channel_PeerServer) error {
	if certified(stream.Context()) != serverName {
		return status.Error(codes.PermissionDenied, "this call needs a server's certificate")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	p := &peer{stream: stream, lagging: cancel}
	s.mu.Lock()
	s.peers[p] = true
	p.news = make(chan *wire.FromPeer, 10_000+len(s.nodes))
	for _, ways := range s.nodes {
		if ways[0].direct {
			p.news <- ways[0].up()
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.peers, p)
	}()
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				cancel()
				return
			}
			if m.GetCall().GetAck() != nil {
				s.passAck(m) // in order, before a goroutine for it could fall behind
			} else {
				go s.pass(ctx, p, m)
			}
		}
	}()
	for {
		select {
		case m := <-p.news:
			if err := p.send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) passAck(m *wire.ToPeer) {
	if c := s.here(warpket.ID(m.GetNode())); c != nil {
		_ = c.ask(m.GetCall())
	}
}

// here is a node's own stream to this server: what a peer asks for is not sent
// on to a third one.
func (s *Server) here(node warpket.ID) *connection {
	if c := s.way(node); c != nil && c.direct {
		return c
	}
	return nil
}

// pass makes a call for a peer.
func (s *Server) pass(ctx context.Context, p *peer, m *wire.ToPeer) {
	node, call := warpket.ID(m.GetNode()), m.GetCall()
	id := call.GetId()
	switch what := call.GetWhat().(type) {
	case *wire.Call_Run:
		defer s.relay(relay{node, warpket.ID(what.Run.GetExecution()), what.Run.GetAttempt()}, p)()
	case *wire.Call_Attach:
		defer s.relay(relay{node, warpket.ID(what.Attach.GetExecution()), what.Attach.GetAttempt()}, p)()
	}
	reply, err := (*wire.Reply)(nil), error(ErrNotConnected)
	if s.here(node) != nil {
		reply, err = s.call(ctx, node, call, func(text string) {
			_ = p.send(&wire.FromPeer{Node: m.GetNode(), Message: &wire.FromPeer_Progress{Progress: &wire.Progress{Call: id, Text: text}}})
		})
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		reply = &wire.Reply{Error: toWire(err)}
	}
	reply.Id = id
	_ = p.send(&wire.FromPeer{Node: m.GetNode(), Message: &wire.FromPeer_Reply{Reply: reply}}) // the stream's end is seen by Recv
}

// relay has the log of an attempt passed on to a peer, until the function that
// it gives is called.
func (s *Server) relay(r relay, p *peer) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays[r] = append(s.relays[r], p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.Index(s.relays[r], p)
		if s.relays[r] = slices.Delete(slices.Clone(s.relays[r]), i, i+1); len(s.relays[r]) == 0 {
			delete(s.relays, r)
		}
	}
}

// relayLog passes on what an execution has written that peers asked for.
func (s *Server) relayLog(node warpket.ID, chunk *wire.LogChunk) {
	s.mu.Lock()
	peers := s.relays[relay{node, warpket.ID(chunk.GetExecution()), chunk.GetAttempt()}]
	s.mu.Unlock()
	for _, p := range peers {
		_ = p.send(&wire.FromPeer{Node: string(node), Message: &wire.FromPeer_Log{Log: chunk}})
	}
}

// tellPeers queues news of a node for all peers. The caller holds s.mu, which
// keeps news in order.
func (s *Server) tellPeers(m *wire.FromPeer) {
	for p := range s.peers {
		select {
		case p.news <- m:
		default:
			p.lagging() // it connects anew and hears all from the start
		}
	}
}

// up is the news that a node is here. The caller holds the server's mu.
func (c *connection) up() *wire.FromPeer {
	up := &wire.NodeUp{Name: c.name, Boot: string(c.boot)}
	for _, r := range c.slots {
		up.Slots = append(up.Slots, slotState(r))
	}
	return &wire.FromPeer{Node: string(c.id), Message: &wire.FromPeer_Up{Up: up}}
}

// KeepPeer keeps a connection to another server, by which this one calls nodes
// that are not connected here, until ctx ends.
func (s *Server) KeepPeer(ctx context.Context, address string) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		begun := time.Now()
		err := s.callPeer(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > 5*time.Second {
			pause = 50 * time.Millisecond
		}
		s.log.Warn("no connection to another server; trying again", "server", address, "in", pause, "cause", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, 2*time.Second)
	}
}

func (s *Server) callPeer(ctx context.Context, address string) error {
	config, err := s.authority.serverTLS()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := wire.NewChannelClient(conn).Peer(ctx)
	if err != nil {
		return explain(err)
	}
	var sending sync.Mutex
	nodes := map[warpket.ID]*connection{}
	defer func() {
		for _, c := range nodes {
			s.leave(c)
		}
	}()
	for {
		m, err := stream.Recv()
		if err != nil {
			return explain(err)
		}
		id := warpket.ID(m.GetNode())
		c := nodes[id]
		if up := m.GetUp(); up != nil {
			if c != nil {
				s.leave(c)
			}
			c = newConnection(id, warpket.ID(up.GetBoot()), up.GetName(), func(call *wire.Call) error {
				sending.Lock()
				defer sending.Unlock()
				return stream.Send(&wire.ToPeer{Node: string(id), Call: call})
			})
			for _, slot := range up.GetSlots() {
				c.slots[warpket.ID(slot.GetSlot())] = c.ready(slot)
			}
			nodes[id] = c
			s.enter(c)
			continue
		}
		if c == nil {
			continue // an answer for a connection that is over
		}
		switch m := m.GetMessage().(type) {
		case *wire.FromPeer_Down:
			delete(nodes, id)
			s.leave(c)
		case *wire.FromPeer_Reply:
			c.replied(m.Reply)
		case *wire.FromPeer_Progress:
			c.progressed(m.Progress)
		case *wire.FromPeer_SlotReady:
			s.slotReady(c, m.SlotReady)
		case *wire.FromPeer_SlotGone:
			s.slotGone(c, m.SlotGone)
		case *wire.FromPeer_Log:
			s.fleet.Log(id, warpket.ID(m.Log.GetExecution()), int(m.Log.GetAttempt()), m.Log.GetOffset(), m.Log.GetData())
		}
	}
}
