// Package channel is the node channel: how servers and nodes speak. Nodes dial,
// with a certificate that they got for a one-time token; after that servers
// call. See wire/channel.proto for the protocol.
package channel

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// protocol is the version of the node channel that this release speaks best;
// servers also take the one before.
const protocol = 1

const maxMessage = 16 << 20

// Fleet is what the server's end of the channel tells the rest of the server,
// and asks of it.
type Fleet interface {
	// Join spends a one-time token and gives the node its ID.
	Join(ctx context.Context, token warpket.ID, secret, name string) (warpket.ID, error)
	// Up says that a node has connected, with what it has and holds. It
	// gives the node's name and the slots that the node has to end.
	Up(ctx context.Context, node, boot warpket.ID, inventory warpket.Inventory, held map[warpket.ID]int64) (name string, end map[warpket.ID]int64, err error)
	// Recorded gives those of some executions whose outcome is recorded.
	Recorded(ctx context.Context, executions []warpket.ID) ([]warpket.ID, error)
	// Renew extends the node's lease, and takes what it keeps ready. loads is
	// what its devices do; nil when that has not changed.
	Renew(ctx context.Context, node, boot warpket.ID, kept []warpket.KeptReady, loads map[string]warpket.Load) error
	// Devices says that a device of the node has changed. devices are all.
	Devices(ctx context.Context, node, boot warpket.ID, devices []warpket.Device) error
	// SlotGone says that a slot of the node serves no longer.
	SlotGone(ctx context.Context, node, slot warpket.ID, generation int64)
	// SlotIdle says that a slot has become idle: others may have its room. It
	// returns at once.
	SlotIdle()
	// Upload gives a node that runs an execution the right to store bytes.
	Upload(ctx context.Context, node, execution warpket.ID, sha256 string, size int64) (url string, header map[string]string, err error)
	// Log passes on what a running execution has written.
	Log(node, execution warpket.ID, attempt int, offset int64, data []byte)
	// Servers are the addresses that nodes connect to.
	Servers() []string
}

// Server is the server's end.
type Server struct {
	wire.UnimplementedChannelServer
	id        warpket.ID
	authority *Authority
	fleet     Fleet
	log       *slog.Logger
	pool      pool
	last      atomic.Uint64 // ID of a call

	mu     sync.Mutex
	nodes  map[warpket.ID][]*connection // ways to each node, the best first
	came   chan struct{}                // closed and made anew when a node connects
	peers  map[*peer]bool               // servers that call nodes through this one
	relays map[relay][]*peer            // who gets the log of an attempt
}

// NewServer makes the server's end.
func NewServer(id warpket.ID, authority *Authority, fleet Fleet, log *slog.Logger) *Server {
	s := &Server{id: id, authority: authority, fleet: fleet, log: log, pool: newPool(), nodes: map[warpket.ID][]*connection{}, came: make(chan struct{}), peers: map[*peer]bool{}, relays: map[relay][]*peer{}}
	if fleet != nil {
		s.pool.idled = fleet.SlotIdle
	}
	return s
}

// Serve serves nodes on a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	config, err := s.authority.serverTLS()
	if err != nil {
		return err
	}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	wire.RegisterChannelServer(g, s)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving the node channel: %w", err)
	}
	return nil
}

// Join signs the certificate of a node that has a one-time token.
func (s *Server) Join(ctx context.Context, in *wire.JoinRequest) (*wire.JoinReply, error) {
	id, secret, _, err := ParseJoinToken(in.GetToken())
	if err != nil {
		return nil, toStatus(err)
	}
	if err := warpket.CheckName("node", in.GetName()); err != nil {
		return nil, toStatus(err)
	}
	public, err := x509.ParsePKIXPublicKey(in.GetPublicKey())
	if err != nil {
		return nil, toStatus(warpket.Errorf(warpket.Invalid, "the public key cannot be read"))
	}
	node, err := s.fleet.Join(ctx, id, secret, in.GetName())
	if err != nil {
		return nil, toStatus(err)
	}
	certificate, err := s.authority.sign(string(node), public, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, toStatus(err)
	}
	s.log.Info("node joined", "node", in.GetName(), "id", node)
	return &wire.JoinReply{NodeId: string(node), Certificate: certificate}, nil
}

// caller is the node whose certificate the connection has.
func caller(ctx context.Context) (warpket.ID, error) {
	if node, err := warpket.ParseID("node", certified(ctx)); err == nil {
		return node, nil
	}
	return "", status.Error(codes.Unauthenticated, "this call needs a node's certificate")
}

// certified is the name in the certificate that the connection has, if any.
func certified(ctx context.Context) string {
	p, _ := grpcpeer.FromContext(ctx)
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
		return info.State.VerifiedChains[0][0].Subject.CommonName
	}
	return ""
}

// Connect serves one node until either side ends.
func (s *Server) Connect(stream wire.Channel_ConnectServer) error {
	ctx := stream.Context()
	node, err := caller(ctx)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	hello := first.GetHello()
	if err != nil || hello == nil {
		return status.Error(codes.InvalidArgument, "the first message must be Hello")
	}
	if hello.GetProtocol() > protocol || hello.GetProtocol() < protocol-1 {
		return status.Errorf(codes.FailedPrecondition, "this server speaks protocol %d and %d of the node channel, the node %d: update the servers first, then the nodes", protocol, protocol-1, hello.GetProtocol())
	}
	c := &nodeStream{stream: stream}
	c.connection = newConnection(node, warpket.ID(hello.GetBoot()), "", func(call *wire.Call) error { return c.send(&wire.ToNode{Message: &wire.ToNode_Call{Call: call}}) })
	c.direct = true
	if err := s.welcome(ctx, c, hello); err != nil {
		return toStatus(err)
	}
	defer s.leave(c.connection)
	s.log.Info("node connected", "node", c.name, "boot", c.boot)
	for {
		m, err := stream.Recv()
		if err != nil {
			s.log.Info("node disconnected", "node", c.name, "cause", err)
			return nil
		}
		if err := s.heard(ctx, c, m); err != nil {
			return toStatus(err)
		}
	}
}

// nodeStream is the connection of a node that has dialled this server.
type nodeStream struct {
	*connection
	stream  wire.Channel_ConnectServer
	sending sync.Mutex
}

func (c *nodeStream) send(m *wire.ToNode) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(m)
}

func (s *Server) welcome(ctx context.Context, c *nodeStream, hello *wire.Hello) error {
	var inventory warpket.Inventory
	if err := json.Unmarshal(hello.GetInventory(), &inventory); err != nil {
		return warpket.Errorf(warpket.Invalid, "the inventory cannot be read: %v", err)
	}
	if err := warpket.CheckDevices(inventory.Devices); err != nil {
		return err
	}
	held := make(map[warpket.ID]int64, len(hello.GetSlots()))
	for _, slot := range hello.GetSlots() {
		held[warpket.ID(slot.GetSlot())] = slot.GetGeneration()
	}
	name, end, err := s.fleet.Up(ctx, c.id, c.boot, inventory, held)
	if err != nil {
		return err
	}
	c.name = name
	welcome := &wire.Welcome{Server: string(s.id), Servers: s.fleet.Servers()}
	for slot, generation := range end {
		welcome.End = append(welcome.End, &wire.SlotRef{Slot: string(slot), Generation: generation})
	}
	if err := c.send(&wire.ToNode{Message: &wire.ToNode_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	for _, slot := range hello.GetSlots() {
		if _, over := end[warpket.ID(slot.GetSlot())]; !over && slot.GetReady() {
			c.slots[warpket.ID(slot.GetSlot())] = c.ready(slot)
		}
	}
	s.enter(c.connection)
	if len(hello.GetKept()) > 0 {
		go s.forget(context.WithoutCancel(ctx), c.connection, hello.GetKept())
	}
	return nil
}

// forget lets a node forget outcomes that are recorded: the server that did may
// have died before it told.
func (s *Server) forget(ctx context.Context, c *connection, kept []*wire.Ack) {
	ids := make([]warpket.ID, len(kept))
	for i, k := range kept {
		ids[i] = warpket.ID(k.GetExecution())
	}
	recorded, err := s.fleet.Recorded(ctx, ids)
	if err != nil {
		s.log.Warn("node not told which outcomes are recorded; it is when it connects anew", "node", c.name, "error", err)
	}
	for _, k := range kept {
		if slices.Contains(recorded, warpket.ID(k.GetExecution())) {
			_ = c.ask(&wire.Call{What: &wire.Call_Ack{Ack: k}}) // a broken connection is seen by Recv
		}
	}
}

func (c *connection) ready(slot *wire.SlotState) Ready {
	return readyOf(c.id, c.name, slot)
}

// enter adds a way to a node. A node has one stream to a server: an older one
// is over.
func (s *Server) enter(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := s.nodes[c.id]
	if !c.direct {
		ways = append(ways, c)
	} else {
		if len(ways) > 0 && ways[0].direct {
			ways[0].drop()
			ways = ways[1:]
		}
		ways = slices.Insert(ways, 0, c)
	}
	s.nodes[c.id] = ways
	s.chosen(c.id)
	close(s.came)
	s.came = make(chan struct{})
	if c.direct {
		s.tellPeers(c.up())
	}
}

func (s *Server) leave(c *connection) {
	c.drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.nodes[c.id], c)
	if i < 0 {
		return
	}
	s.nodes[c.id] = slices.Delete(s.nodes[c.id], i, i+1)
	s.chosen(c.id)
	if len(s.nodes[c.id]) == 0 {
		delete(s.nodes, c.id)
	}
	if c.direct {
		s.tellPeers(&wire.FromPeer{Node: string(c.id), Message: &wire.FromPeer_Down{Down: &wire.NodeDown{}}})
	}
}

// chosen lists the slots that the best way to a node knows of, and no others.
func (s *Server) chosen(node warpket.ID) {
	var now map[warpket.ID]Ready
	if ways := s.nodes[node]; len(ways) > 0 {
		now = ways[0].slots
	}
	s.pool.remove(func(r Ready) bool { return r.NodeID == node && now[r.ID].Generation != r.Generation })
	for _, r := range now {
		s.pool.add(r)
	}
}

// way is the best connection to a node.
func (s *Server) way(node warpket.ID) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ways := s.nodes[node]; len(ways) > 0 {
		return ways[0]
	}
	return nil
}

func (s *Server) slotReady(c *connection, slot *wire.SlotState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := c.ready(slot)
	c.slots[r.ID] = r
	if slices.Index(s.nodes[c.id], c) == 0 {
		s.pool.add(r)
	}
	if c.direct {
		s.tellPeers(&wire.FromPeer{Node: string(c.id), Message: &wire.FromPeer_SlotReady{SlotReady: slot}})
	}
}

func (s *Server) slotGone(c *connection, gone *wire.SlotGone) {
	id := warpket.ID(gone.GetSlot())
	s.GoneSlot(id, gone.GetGeneration())
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.slots[id].Generation <= gone.GetGeneration() {
		delete(c.slots, id)
	}
	if c.direct {
		s.tellPeers(&wire.FromPeer{Node: string(c.id), Message: &wire.FromPeer_SlotGone{SlotGone: gone}})
	}
}

// heard acts on one message of a node. What may take long runs on its own, so
// that the stream never stands still.
func (s *Server) heard(ctx context.Context, c *nodeStream, m *wire.FromNode) error {
	switch m := m.GetMessage().(type) {
	case *wire.FromNode_Reply:
		c.replied(m.Reply)
	case *wire.FromNode_Progress:
		c.progressed(m.Progress)
	case *wire.FromNode_SlotReady:
		s.slotReady(c.connection, m.SlotReady)
	case *wire.FromNode_SlotGone:
		s.slotGone(c.connection, m.SlotGone)
		go s.fleet.SlotGone(context.WithoutCancel(ctx), c.id, warpket.ID(m.SlotGone.GetSlot()), m.SlotGone.GetGeneration())
	case *wire.FromNode_Renew:
		return s.renew(ctx, c, m.Renew)
	case *wire.FromNode_Devices:
		return s.devices(ctx, c, m.Devices)
	case *wire.FromNode_Upload:
		go s.upload(ctx, c, m.Upload)
	}
	return nil
}

// renew extends a node's lease. A node that was given up connects anew and says
// what it holds; one whose lease could not be written is not told that it was.
func (s *Server) renew(ctx context.Context, c *nodeStream, in *wire.Renew) error {
	var kept []warpket.KeptReady
	for _, k := range in.GetKept() {
		if project, err := warpket.ParseID("project", k.GetProject()); err == nil || k.GetProject() == "" {
			kept = append(kept, warpket.KeptReady{Runtime: k.GetRuntime(), Project: project, Workers: int(k.GetWorkers())})
		}
	}
	var loads map[string]warpket.Load
	if b := in.GetLoads(); len(b) > 0 && len(b) <= maxLoads {
		if err := json.Unmarshal(b, &loads); err != nil {
			return warpket.Errorf(warpket.Invalid, "what the devices do cannot be read: %v", err)
		}
	}
	err := s.fleet.Renew(ctx, c.id, c.boot, kept, loads)
	if err == nil {
		return c.send(&wire.ToNode{Message: &wire.ToNode_Renewed{Renewed: &wire.Renewed{Servers: s.fleet.Servers()}}})
	}
	if warpket.KindOf(err) == warpket.Conflict {
		return err
	}
	s.log.Warn("lease not renewed", "node", c.name, "error", err)
	return nil
}

// maxLoads bounds what a node may say of its devices' load, in bytes.
const maxLoads = 1 << 20

// devices records a change of a node's devices. When that fails the node
// connects anew, and says all that it has.
func (s *Server) devices(ctx context.Context, c *nodeStream, in *wire.Devices) error {
	var devices []warpket.Device
	if err := json.Unmarshal(in.GetDevices(), &devices); err != nil {
		return warpket.Errorf(warpket.Invalid, "the devices cannot be read: %v", err)
	}
	if err := warpket.CheckDevices(devices); err != nil {
		return err
	}
	return s.fleet.Devices(ctx, c.id, c.boot, devices)
}

func (s *Server) upload(ctx context.Context, c *nodeStream, in *wire.UploadRequest) {
	out := &wire.UploadReply{Id: in.GetId()}
	var err error
	out.Url, out.Header, err = s.fleet.Upload(ctx, c.id, warpket.ID(in.GetExecution()), in.GetSha256(), in.GetSize())
	out.Error = toWire(err)
	_ = c.send(&wire.ToNode{Message: &wire.ToNode_Upload{Upload: out}}) // the stream's end is seen by Recv
}

// Logs takes what a node's executions write.
func (s *Server) Logs(stream wire.Channel_LogsServer) error {
	node, err := caller(stream.Context())
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the node has gone: its calls tell
		}
		s.fleet.Log(node, warpket.ID(m.GetExecution()), int(m.GetAttempt()), m.GetOffset(), m.GetData())
		s.relayLog(node, m)
	}
}

// Connected waits until a node is connected to this server or to one that this
// one knows, or ctx ends.
func (s *Server) Connected(ctx context.Context, node warpket.ID) error {
	for {
		s.mu.Lock()
		up, came := len(s.nodes[node]) > 0, s.came
		s.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-came:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Boot is the agent process of a node that is connected.
func (s *Server) Boot(node warpket.ID) (warpket.ID, bool) {
	if c := s.way(node); c != nil {
		return c.boot, true
	}
	return "", false
}

// toWire puts an error into a message. Only what a caller may read crosses.
func toWire(err error) *wire.Error {
	if err == nil {
		return nil
	}
	_, refused := errors.AsType[Refused](err)
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		return &wire.Error{Kind: string(e.Kind), Message: e.Message, Refused: refused, NotConnected: errors.Is(err, ErrNotConnected)}
	}
	if errors.Is(err, ErrBroken) {
		return &wire.Error{Kind: string(warpket.Unavailable), Message: err.Error(), Broken: true}
	}
	return &wire.Error{Kind: string(warpket.Internal), Message: err.Error(), Refused: refused}
}

// fromWire is the reverse of toWire.
func fromWire(e *wire.Error) error {
	switch {
	case e == nil:
		return nil
	case e.GetNotConnected():
		return ErrNotConnected
	case e.GetBroken():
		return ErrBroken
	}
	err := &warpket.Error{Kind: warpket.Kind(e.GetKind()), Message: e.GetMessage()}
	if e.GetRefused() {
		return Refused{err}
	}
	return err
}

// toStatus ends a call with an error that a node's operator can read.
func toStatus(err error) error {
	switch warpket.KindOf(err) {
	case warpket.Unauthenticated, warpket.Denied:
		return status.Error(codes.PermissionDenied, err.Error())
	case warpket.Conflict:
		return status.Error(codes.Aborted, err.Error())
	case warpket.Invalid:
		return status.Error(codes.InvalidArgument, err.Error())
	default:
	}
	return status.Error(codes.Unavailable, err.Error())
}
