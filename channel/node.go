package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// Agent is what a node does when servers call.
type Agent interface {
	// Hello says what the node has and holds.
	Hello() *wire.Hello
	// Kept says what the node keeps ready.
	Kept() []*wire.KeptReady
	// Loads is what the node's devices do, JSON; empty when it has none.
	Loads() []byte
	// End ends slots that are no longer the node's. It is called before a
	// new connection takes calls.
	End(slots []*wire.SlotRef)
	// Call does what a server asks. Each call has a goroutine of its own; ctx
	// ends with the node, not with the connection.
	Call(ctx context.Context, from *Link, call *wire.Call) *wire.Reply
}

// Client is the node's end: it keeps a connection to every server.
type Client struct {
	config *tls.Config
	agent  Agent
	log    *slog.Logger
	heard  atomic.Int64 // when a server was last heard, in Unix nanoseconds

	mu    sync.Mutex
	links map[string]*Link              // connected, by address
	dials map[string]context.CancelFunc // wanted, by address
}

// NewClient makes the node's end.
func NewClient(id Identity, agent Agent, log *slog.Logger) (*Client, error) {
	config, err := id.tls()
	if err != nil {
		return nil, err
	}
	return &Client{config: config, agent: agent, log: log, links: map[string]*Link{}, dials: map[string]context.CancelFunc{}}, nil
}

// Run keeps connections to the server at address, and to all servers that it
// tells of, until ctx ends.
func (c *Client) Run(ctx context.Context, address string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	servers := make(chan []string, 1)
	servers <- nil
	for {
		select {
		case <-ctx.Done():
			return nil
		case list := <-servers:
			c.want(ctx, &wg, append([]string{address}, list...), servers)
		}
	}
}

// want dials the servers that are not dialled yet and leaves those that are no
// longer listed.
func (c *Client) want(ctx context.Context, wg *sync.WaitGroup, addresses []string, servers chan []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[string]bool{}
	for _, a := range addresses {
		wanted[a] = true
		if c.dials[a] != nil {
			continue
		}
		dialling, cancel := context.WithCancel(ctx)
		c.dials[a] = cancel
		wg.Go(func() { c.keep(dialling, ctx, a, servers) })
	}
	for a, cancel := range c.dials {
		if !wanted[a] {
			cancel()
			delete(c.dials, a)
		}
	}
}

// keep connects to one server again and again, until ctx ends. work is the
// node's own context: what a server has asked for outlives its being listed.
func (c *Client) keep(ctx, work context.Context, address string, servers chan []string) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.connect(ctx, work, address, servers)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > 5*time.Second {
			pause = 50 * time.Millisecond
		}
		c.log.Warn("no connection to the server; trying again", "server", address, "in", pause, "cause", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// Link is a connection to one server.
type Link struct {
	server  warpket.ID
	stream  wire.Channel_ConnectClient
	logs    wire.Channel_LogsClient
	broken  <-chan struct{}
	sending sync.Mutex
	logging sync.Mutex
	mu      sync.Mutex
	last    uint64
	uploads map[uint64]chan *wire.UploadReply
}

// connect serves one connection until it breaks. work is the context of the
// calls: they outlive the connection.
func (c *Client) connect(ctx, work context.Context, address string, servers chan []string) error {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(c.config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := wire.NewChannelClient(conn)
	link := &Link{broken: ctx.Done(), uploads: map[uint64]chan *wire.UploadReply{}}
	if link.stream, err = client.Connect(ctx); err != nil {
		return explain(err)
	}
	if link.logs, err = client.Logs(ctx); err != nil {
		return explain(err)
	}
	// Held from before Hello, so that news cannot overtake it.
	link.sending.Lock()
	c.mu.Lock()
	c.links[address] = link
	c.mu.Unlock()
	hello := c.agent.Hello() // what changes after it is told once it is sent
	hello.Protocol = protocol
	err = link.stream.Send(&wire.FromNode{Message: &wire.FromNode_Hello{Hello: hello}})
	link.sending.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.links, address)
	}()
	if err != nil {
		_, err = link.stream.Recv() // tells why
		return explain(err)
	}
	first, err := link.stream.Recv()
	if err != nil {
		return explain(err)
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return fmt.Errorf("the server at %s did not answer Hello with Welcome", address)
	}
	link.server = warpket.ID(welcome.GetServer())
	c.agent.End(welcome.GetEnd())
	c.hear(welcome.GetServers(), servers)
	c.log.Info("connected", "server", address)
	go link.renew(ctx, c.agent)
	for {
		m, err := link.stream.Recv()
		if err != nil {
			return explain(err)
		}
		switch m := m.GetMessage().(type) {
		case *wire.ToNode_Renewed:
			c.hear(m.Renewed.GetServers(), servers)
		case *wire.ToNode_Upload:
			link.uploaded(m.Upload)
		case *wire.ToNode_Call:
			go func() {
				if reply := c.agent.Call(work, link, m.Call); reply != nil {
					reply.Id = m.Call.GetId()
					_ = link.send(&wire.FromNode{Message: &wire.FromNode_Reply{Reply: reply}}) // a broken link is seen by Recv
				}
			}()
		}
	}
}

func (c *Client) hear(list []string, servers chan []string) {
	c.heard.Store(time.Now().UnixNano())
	select {
	case <-servers: // an older list that nobody has read
	default:
	}
	select {
	case servers <- list:
	default:
	}
}

// Alone reports for how long no server has been heard.
func (c *Client) Alone() time.Duration { return time.Since(time.Unix(0, c.heard.Load())) }

// SlotReady tells all servers that a slot serves.
func (c *Client) SlotReady(s *wire.SlotState) {
	c.tell(&wire.FromNode{Message: &wire.FromNode_SlotReady{SlotReady: s}})
}

// SlotGone tells all servers that a slot serves no longer.
func (c *Client) SlotGone(slot warpket.ID, generation int64) {
	c.tell(&wire.FromNode{Message: &wire.FromNode_SlotGone{SlotGone: &wire.SlotGone{Slot: string(slot), Generation: generation}}})
}

func (c *Client) tell(m *wire.FromNode) {
	c.mu.Lock()
	links := make([]*Link, 0, len(c.links))
	for _, l := range c.links {
		links = append(links, l)
	}
	c.mu.Unlock()
	for _, l := range links {
		_ = l.send(m)
	}
}

func (l *Link) send(m *wire.FromNode) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	return l.stream.Send(m)
}

// Devices tells all servers what the node has, JSON, after a change.
func (c *Client) Devices(devices []byte) {
	c.tell(&wire.FromNode{Message: &wire.FromNode_Devices{Devices: &wire.Devices{Devices: devices}}})
}

// renew keeps the lease, three times within it, and tells what the node keeps
// ready and what its devices do.
func (l *Link) renew(ctx context.Context, agent Agent) {
	tick := time.NewTicker(warpket.Lease / 3)
	defer tick.Stop()
	l.renewAt(ctx, tick.C, agent)
}

func (l *Link) renewAt(ctx context.Context, tick <-chan time.Time, agent Agent) {
	var told []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			renew := &wire.Renew{Kept: agent.Kept()}
			if now := agent.Loads(); !bytes.Equal(now, told) {
				renew.Loads, told = now, now
			}
			if l.send(&wire.FromNode{Message: &wire.FromNode_Renew{Renew: renew}}) != nil {
				return
			}
		}
	}
}

// Progress tells the server how far one of its calls is.
func (l *Link) Progress(call uint64, text string) {
	_ = l.send(&wire.FromNode{Message: &wire.FromNode_Progress{Progress: &wire.Progress{Call: call, Text: text}}})
}

// Log sends what an execution has written. It blocks while the server takes
// no more, and reports whether the server is still there.
func (l *Link) Log(execution warpket.ID, attempt int32, offset int64, data []byte) bool {
	l.logging.Lock()
	defer l.logging.Unlock()
	return l.logs.Send(&wire.LogChunk{Execution: string(execution), Attempt: attempt, Offset: offset, Data: data}) == nil
}

// Broken is closed when the connection is over.
func (l *Link) Broken() <-chan struct{} { return l.broken }

// Upload asks the server for the right to store bytes of an execution.
func (l *Link) Upload(ctx context.Context, execution warpket.ID, sha256 string, size int64) (*wire.UploadReply, error) {
	reply := make(chan *wire.UploadReply, 1)
	l.mu.Lock()
	l.last++
	id := l.last
	l.uploads[id] = reply
	l.mu.Unlock()
	err := l.send(&wire.FromNode{Message: &wire.FromNode_Upload{Upload: &wire.UploadRequest{Id: id, Execution: string(execution), Sha256: sha256, Size: size}}})
	if err != nil {
		return nil, ErrBroken
	}
	select {
	case r := <-reply:
		return r, fromWire(r.GetError())
	case <-l.broken:
		return nil, ErrBroken
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Link) uploaded(r *wire.UploadReply) {
	l.mu.Lock()
	reply := l.uploads[r.GetId()]
	delete(l.uploads, r.GetId())
	l.mu.Unlock()
	if reply != nil {
		reply <- r
	}
}

// ErrorReply answers a call with an error.
func ErrorReply(err error) *wire.Reply { return &wire.Reply{Error: toWire(err)} }
