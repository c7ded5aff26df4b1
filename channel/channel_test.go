package channel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

const nodeID = warpket.ID("0192f000-0000-7000-8000-000000000001")

// fleet is the rest of a server, as far as the channel sees it.
type fleet struct {
	mu      sync.Mutex
	secret  string // of the one token that holds
	up      chan map[warpket.ID]int64
	end     map[warpket.ID]int64
	renewed chan []warpket.KeptReady
	loads   chan map[string]warpket.Load
	devices chan []warpket.Device
	gone    chan warpket.ID
	logged  chan string
	idle    chan struct{}
	renew   error
}

func newFleet() *fleet {
	return &fleet{secret: warpket.Secret(), up: make(chan map[warpket.ID]int64, 10), renewed: make(chan []warpket.KeptReady, 10), loads: make(chan map[string]warpket.Load, 10), devices: make(chan []warpket.Device, 10), gone: make(chan warpket.ID, 10), logged: make(chan string, 10), idle: make(chan struct{}, 1)}
}

func (f *fleet) Join(_ context.Context, _ warpket.ID, secret, _ string) (warpket.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if secret != f.secret {
		return "", warpket.Errorf(warpket.Unauthenticated, "this node token is spent")
	}
	f.secret = "spent"
	return nodeID, nil
}

func (f *fleet) Up(_ context.Context, _, _ warpket.ID, _ warpket.Inventory, held map[warpket.ID]int64) (string, map[warpket.ID]int64, error) {
	f.up <- held
	return "node", f.end, nil
}

func (f *fleet) Recorded(context.Context, []warpket.ID) ([]warpket.ID, error) {
	return []warpket.ID{"recorded"}, nil
}

func (f *fleet) Renew(_ context.Context, _, _ warpket.ID, kept []warpket.KeptReady, loads map[string]warpket.Load) error {
	f.renewed <- kept
	f.loads <- loads
	return f.renew
}

func (f *fleet) Devices(_ context.Context, _, _ warpket.ID, devices []warpket.Device) error {
	f.devices <- devices
	return nil
}
func (f *fleet) SlotGone(_ context.Context, _, slot warpket.ID, _ int64) { f.gone <- slot }
func (f *fleet) SlotIdle() {
	select {
	case f.idle <- struct{}{}:
	default:
	}
}

func (f *fleet) Upload(_ context.Context, _, e warpket.ID, sum string, _ int64) (string, map[string]string, error) {
	if e != "mine" {
		return "", nil, warpket.Errorf(warpket.Denied, "this node does not run execution %s", e)
	}
	return "http://store/" + sum, map[string]string{"X": "y"}, nil
}

func (f *fleet) Log(_, e warpket.ID, _ int, _ int64, data []byte) {
	f.logged <- string(e) + ":" + string(data)
}
func (f *fleet) Servers() []string { return nil }

// agent is a node that answers as it is told.
type agent struct {
	slots  []*wire.SlotState
	kept   []*wire.Ack
	loads  []byte
	ended  chan []*wire.SlotRef
	answer func(ctx context.Context, from *Link, call *wire.Call) *wire.Reply
}

func (a *agent) Hello() *wire.Hello {
	return &wire.Hello{Boot: string(nodeID), Inventory: []byte(`{}`), Slots: a.slots, Kept: a.kept}
}

func (a *agent) Kept() []*wire.KeptReady {
	return []*wire.KeptReady{{Runtime: "runtime/a", Workers: 1}, {Runtime: "runtime/a", Project: string(nodeID), Workers: 2}, {Runtime: "runtime/a", Project: "no ID", Workers: 9}}
}

func (a *agent) Loads() []byte             { return a.loads }
func (a *agent) End(slots []*wire.SlotRef) { a.ended <- slots }
func (a *agent) Call(ctx context.Context, from *Link, call *wire.Call) *wire.Reply {
	return a.answer(ctx, from, call)
}

type pair struct {
	fleet     *fleet
	agent     *agent
	server    *Server
	client    *Client
	authority *Authority
	identity  Identity
	address   string
	stop      context.CancelFunc // of the server
	stopNode  context.CancelFunc
}

// connect makes a server and a node that has joined and is connected.
func connect(t *testing.T, a *agent) *pair {
	t.Helper()
	p := &pair{fleet: newFleet(), agent: a}
	a.ended = make(chan []*wire.SlotRef, 10)
	certificate, key, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if p.authority, err = LoadAuthority(certificate, key); err != nil {
		t.Fatal(err)
	}
	p.serve(t, "127.0.0.1:0")
	token := p.authority.JoinToken(nodeID, p.fleet.secret)
	if p.identity, err = Join(t.Context(), p.address, token, "node"); err != nil {
		t.Fatal(err)
	}
	if p.client, err = NewClient(p.identity, a, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p.stopNode = stop
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.client.Run(ctx, p.address) })
	t.Cleanup(func() { stop(); wg.Wait() })
	if err := p.server.Connected(t.Context(), nodeID); err != nil {
		t.Fatal(err)
	}
	<-a.ended
	return p
}

func (p *pair) serve(t *testing.T, address string) {
	t.Helper()
	var l net.ListenConfig
	listener, err := l.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	p.server = NewServer("server", p.authority, p.fleet, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.server.Serve(ctx, listener) })
	p.stop = func() { stop(); wg.Wait() }
	t.Cleanup(p.stop)
}

func TestATokenIsGoodForOneNode(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	_, err := Join(t.Context(), p.address, p.authority.JoinToken(nodeID, p.fleet.secret), "other")
	if err == nil {
		t.Fatal("joined with a spent token")
	}
	if k := warpket.KindOf(err); k != warpket.Denied && k != warpket.Unauthenticated {
		t.Errorf("refused with %v", err)
	}
}

func TestANodeDoesNotJoinAServerOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	certificate, key, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	other, err := LoadAuthority(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Join(ctx, p.address, other.JoinToken(nodeID, warpket.Secret()), "node"); err == nil {
		t.Error("it joined")
	}
}

func TestACallReachesTheNodeAndItsAnswerComesBack(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{answer: func(_ context.Context, from *Link, call *wire.Call) *wire.Reply {
		if call.GetLock() != nil {
			from.Progress(call.GetId(), "resolving")
			return &wire.Reply{What: &wire.Reply_Lock{Lock: &wire.LockReply{Lock: "numpy==1"}}}
		}
		return ErrorReply(warpket.Errorf(warpket.Conflict, "slot is busy"))
	}})
	said := make(chan string, 1)
	lock, err := p.server.Lock(t.Context(), nodeID, &wire.Runtime{}, func(text string) { said <- text })
	if err != nil || lock != "numpy==1" || <-said != "resolving" {
		t.Errorf("answered %q, %v", lock, err)
	}
	if _, err := p.server.Run(t.Context(), nodeID, &wire.Run{}); warpket.KindOf(err) != warpket.Conflict || err.Error() != "slot is busy" {
		t.Errorf("refused with %v", err)
	}
}

func TestManyCallsAreAnsweredOutOfOrder(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := connect(t, &agent{answer: func(_ context.Context, _ *Link, call *wire.Call) *wire.Reply {
		if call.GetRun().GetAttempt() == 1 {
			<-release
		}
		return &wire.Reply{What: &wire.Reply_Outcome{Outcome: &wire.Outcome{Ran: int64(call.GetRun().GetAttempt())}}}
	}})
	slow := make(chan int64)
	go func() {
		out, _ := p.server.Run(t.Context(), nodeID, &wire.Run{Attempt: 1})
		slow <- out.GetRan()
	}()
	for n := int32(2); n < 50; n++ {
		if out, err := p.server.Run(t.Context(), nodeID, &wire.Run{Attempt: n}); err != nil || out.GetRan() != int64(n) {
			t.Fatalf("call %d was answered %v, %v", n, out, err)
		}
	}
	close(release)
	if got := <-slow; got != 1 {
		t.Errorf("the first call was answered %d", got)
	}
}

func TestACallTellsNotSentFromOutcomeUnknown(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	p := connect(t, &agent{answer: func(ctx context.Context, _ *Link, _ *wire.Call) *wire.Reply {
		close(arrived)
		<-ctx.Done()
		return nil
	}})
	if _, err := p.server.Run(t.Context(), "0192f000-0000-7000-8000-000000000002", &wire.Run{}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a node that was never here: %v", err)
	}
	go func() {
		<-arrived
		p.stopNode()
	}()
	if _, err := p.server.Run(t.Context(), nodeID, &wire.Run{}); !errors.Is(err, ErrBroken) {
		t.Errorf("a node that went in the middle: %v", err)
	}
}

func TestANodeReconnectsAndSaysWhatItHolds(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{slots: []*wire.SlotState{{Slot: "s1", Generation: 7, Snapshot: "v1", Ready: true, Cpu: 1000, Memory: 1 << 30}}})
	if held := <-p.fleet.up; held["s1"] != 7 {
		t.Fatalf("it held %v", held)
	}
	r, ok := p.server.Reserve("e", "v1", 0, warpket.Resources{CPU: 1000})
	if !ok || r.ID != "s1" || r.NodeID != nodeID {
		t.Fatalf("reserved %+v, %v", r, ok)
	}
	p.stop()
	p.fleet.end = map[warpket.ID]int64{"s1": 7}
	p.serve(t, p.address)
	if held := <-p.fleet.up; held["s1"] != 7 {
		t.Errorf("after the server's restart it held %v", held)
	}
	if ended := <-p.agent.ended; len(ended) != 1 || ended[0].GetSlot() != "s1" {
		t.Errorf("it was told to end %v", ended)
	}
	if known, _ := p.server.Serves("v1", 0, warpket.Resources{}); known {
		t.Error("a slot that was ended is still offered")
	}
}

func TestSlotsAreReservedOnceTheLeastRecentlyUsedFirst(t *testing.T) {
	t.Parallel()
	s := NewServer("", nil, nil, slog.New(slog.DiscardHandler))
	for _, id := range []warpket.ID{"a", "b"} {
		s.ReadySlot(Ready{ID: id, SnapshotID: "v", Generation: 1, Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30}})
	}
	one, _ := s.Reserve("1", "v", 0, warpket.Resources{})
	two, _ := s.Reserve("2", "v", 0, warpket.Resources{})
	_, third := s.Reserve("3", "v", 0, warpket.Resources{})
	if known, idle := s.Serves("v", 0, warpket.Resources{}); one.ID == two.ID || third || idle || !known {
		t.Errorf("reserved %s, %s, and a third: %v", one.ID, two.ID, third)
	}
	s.Free(one.ID, 1, "another") // has had it before
	if _, idle := s.Serves("v", 0, warpket.Resources{}); idle {
		t.Error("a slot was freed by one that does not have it")
	}
	s.Free(one.ID, 1, "1")
	if again, ok := s.Reserve("4", "v", 0, warpket.Resources{}); !ok || again.ID != one.ID {
		t.Errorf("a freed slot is not offered: %+v", again)
	}
	if known, _ := s.Serves("v", 0, warpket.Resources{CPU: 2000}); known {
		t.Error("a slot that is too small counts")
	}
	s.ReadySlot(Ready{ID: "a", SnapshotID: "v", Generation: 2})
	s.GoneSlot("a", 1) // news about the holder before
	if s.pool.find("a", 2) == nil {
		t.Error("late news took a slot away that was handed out anew")
	}
}

func TestASlotOfAnEarlierRevisionIsNotReserved(t *testing.T) {
	t.Parallel()
	s := NewServer("", nil, nil, slog.New(slog.DiscardHandler))
	s.ReadySlot(Ready{ID: "old", SnapshotID: "v", Generation: 1, Revision: 1})
	if known, _ := s.Serves("v", 2, warpket.Resources{}); known {
		t.Error("it is offered to what was accepted at a later one")
	}
	s.ReadySlot(Ready{ID: "new", SnapshotID: "v", Generation: 1, Revision: 2})
	if r, ok := s.Reserve("1", "v", 2, warpket.Resources{}); !ok || r.ID != "new" {
		t.Errorf("reserved %+v", r)
	}
	if r, ok := s.Reserve("2", "v", 1, warpket.Resources{}); !ok || r.ID != "old" {
		t.Errorf("what was accepted before may have it: %+v", r)
	}
}

func TestAFreedSlotGoesToTheOldestThatFits(t *testing.T) {
	t.Parallel()
	s := NewServer("", nil, nil, slog.New(slog.DiscardHandler))
	small := Ready{ID: "a", SnapshotID: "v", Generation: 1, Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30}}
	s.ReadySlot(small)
	s.Reserve("9", "v", 0, warpket.Resources{})
	young := s.Queue("3", "v", 0, warpket.Resources{})
	old := s.Queue("1", "v", 0, warpket.Resources{}) // in the queue later, but asked for earlier
	middle := s.Queue("2", "v", 0, warpket.Resources{})
	big := s.Queue("0", "v", 0, warpket.Resources{CPU: 2000})
	other := s.Queue("0", "w", 0, warpket.Resources{})

	s.Free("a", 1, "9")
	if r := <-old.C; r.ID != "a" {
		t.Fatalf("the oldest got %+v", r)
	}
	old.Close() // received: it stays taken
	if _, idle := s.Serves("v", 0, warpket.Resources{}); idle {
		t.Fatal("a slot that was received went back")
	}
	s.Free("a", 1, "1") // to the middle one, which goes away without receiving it
	middle.Close()
	if r := <-young.C; r.ID != "a" {
		t.Fatalf("the youngest got %+v", r)
	}
	s.ReadySlot(Ready{ID: "b", SnapshotID: "v", Generation: 1, Resources: warpket.Resources{CPU: 4000, Memory: 1 << 30}})
	if r := <-big.C; r.ID != "b" {
		t.Errorf("the big one got %+v", r)
	}
	other.Close()
	s.Free("a", 1, "3")
	if _, idle := s.Serves("v", 0, warpket.Resources{}); !idle {
		t.Error("nobody waits, and the slot is not idle")
	}
}

func TestLogsAndUploadsGoToTheServerThatAsks(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{answer: func(ctx context.Context, from *Link, _ *wire.Call) *wire.Reply {
		from.Log("mine", 1, 0, []byte("hello"))
		u, err := from.Upload(ctx, "mine", "abc", 3)
		if err != nil || u.GetUrl() != "http://store/abc" || u.GetHeader()["X"] != "y" {
			return ErrorReply(errors.New("no right to upload"))
		}
		if _, err := from.Upload(ctx, "other", "abc", 3); warpket.KindOf(err) != warpket.Denied {
			return ErrorReply(errors.New("a right to another's"))
		}
		return &wire.Reply{}
	}})
	if err := p.server.Cancel(t.Context(), nodeID, "mine", 1); err != nil {
		t.Error(err)
	}
	if got := <-p.fleet.logged; got != "mine:hello" {
		t.Errorf("logged %q", got)
	}
	p.client.SlotGone("s1", 1)
	if got := <-p.fleet.gone; got != "s1" {
		t.Errorf("%s is gone", got)
	}
}

func TestANodeIsToldWhichOfTheOutcomesThatItKeepsAreRecorded(t *testing.T) {
	t.Parallel()
	acked := make(chan *wire.Ack, 10)
	connect(t, &agent{kept: []*wire.Ack{{Execution: "open", Attempt: 1}, {Execution: "recorded", Attempt: 2}}, answer: func(_ context.Context, _ *Link, call *wire.Call) *wire.Reply {
		acked <- call.GetAck()
		return nil
	}})
	if got := <-acked; got.GetExecution() != "recorded" || got.GetAttempt() != 2 {
		t.Errorf("it was told of %v", got)
	}
}

func TestIdentityIsKeptForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	file := t.TempDir() + "/identity.json"
	if err := p.identity.Save(file); err != nil {
		t.Fatal(err)
	}
	back, err := LoadIdentity(file)
	if err != nil || back.NodeID != nodeID || strings.Contains(string(back.Key), "BEGIN") {
		t.Errorf("read back %+v, %v", back.NodeID, err)
	}
}

func TestANodeCannotPassForAServer(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	config, err := p.identity.tls()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := wire.NewChannelClient(conn).Peer(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("it was answered %v", err)
	}
}

func TestAServerCannotPassForANode(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	config, err := p.authority.serverTLS()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := wire.NewChannelClient(conn).Connect(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("it was answered %v", err)
	}
}

// behind is a server whose only way to the node is the pair's server.
func (p *pair) behind(t *testing.T) *Server {
	t.Helper()
	far := NewServer("far", p.authority, newFleet(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { far.KeepPeer(ctx, p.address) })
	t.Cleanup(func() { stop(); wg.Wait() })
	if err := far.Connected(t.Context(), nodeID); err != nil {
		t.Fatal(err)
	}
	return far
}

func TestCallsTheirProgressAndErrorsGoThroughAnotherServer(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{slots: []*wire.SlotState{{Slot: "s1", Generation: 7, Snapshot: "v1", Ready: true, Cpu: 1000}}, answer: func(_ context.Context, from *Link, call *wire.Call) *wire.Reply {
		if call.GetLock() != nil {
			from.Progress(call.GetId(), "resolving")
			return &wire.Reply{What: &wire.Reply_Lock{Lock: &wire.LockReply{Lock: "numpy==1"}}}
		}
		return ErrorReply(Refused{warpket.Errorf(warpket.Conflict, "slot is busy")})
	}})
	far := p.behind(t)
	said := make(chan string, 1)
	lock, err := far.Lock(t.Context(), nodeID, &wire.Runtime{}, func(text string) { said <- text })
	if err != nil || lock != "numpy==1" || <-said != "resolving" {
		t.Errorf("answered %q, %v", lock, err)
	}
	_, err = far.Run(t.Context(), nodeID, &wire.Run{})
	if _, refused := errors.AsType[Refused](err); !refused || warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("refused with %v", err)
	}
	if r, ok := far.Reserve("e", "v1", 0, warpket.Resources{}); !ok || r.ID != "s1" || r.Generation != 7 {
		t.Errorf("its slot is %+v, %v", r, ok)
	}
}

func TestNewsOfSlotsAndOfTheNodesEndGoThroughAnotherServer(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	p := connect(t, &agent{answer: func(ctx context.Context, _ *Link, _ *wire.Call) *wire.Reply {
		close(arrived)
		<-ctx.Done()
		return nil
	}})
	far := p.behind(t)
	turn := far.Queue("e", "v1", 0, warpket.Resources{})
	defer turn.Close()
	p.client.SlotReady(&wire.SlotState{Slot: "s1", Generation: 1, Snapshot: "v1", Ready: true})
	if r := <-turn.C; r.ID != "s1" || r.NodeID != nodeID {
		t.Errorf("got %+v", r)
	}
	pending := make(chan error, 1)
	go func() { // ends when the news has come
		_, err := far.Run(t.Context(), nodeID, &wire.Run{})
		pending <- err
	}()
	<-arrived
	p.stopNode()
	if err := <-pending; !errors.Is(err, ErrBroken) {
		t.Errorf("the call ended with %v", err)
	}
	if err := far.Cancel(t.Context(), nodeID, "e", 1); err == nil {
		t.Error("a node that is away was called")
	}
	if known, _ := far.Serves("v1", 0, warpket.Resources{}); known {
		t.Error("a slot of a node that is away is offered")
	}
}

func TestAServerOfItsOwnIsPreferredAndTheOtherOneTakesOver(t *testing.T) {
	t.Parallel()
	slots := []*wire.SlotState{{Slot: "s1", Generation: 1, Snapshot: "v1", Ready: true}}
	p := connect(t, &agent{slots: slots, answer: func(context.Context, *Link, *wire.Call) *wire.Reply { return &wire.Reply{} }})
	far := p.behind(t)
	direct := newConnection(nodeID, nodeID, "node", nil)
	direct.direct = true
	far.enter(direct)
	if c := far.way(nodeID); c != direct {
		t.Error("the node's own stream is not the first choice")
	}
	if known, _ := far.Serves("v1", 0, warpket.Resources{}); known {
		t.Error("what another server says counts more than what the node says")
	}
	far.leave(direct)
	if known, _ := far.Serves("v1", 0, warpket.Resources{}); !known {
		t.Error("the slots that the other server knows are not offered")
	}
	if err := far.Cancel(t.Context(), nodeID, "e", 1); err != nil {
		t.Error(err)
	}
}

func TestANodeSaysWithItsLeaseWhatItKeepsReady(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{})
	want := []warpket.KeptReady{{Runtime: "runtime/a", Workers: 1}, {Runtime: "runtime/a", Project: nodeID, Workers: 2}}
	if diff := cmp.Diff(want, <-p.fleet.renewed); diff != "" {
		t.Error(diff)
	}
}

func TestANodeTellsWhatItsDevicesDoOnlyWhenThatHasChanged(t *testing.T) {
	t.Parallel()
	l := &Link{stream: &renewals{sent: make(chan *wire.Renew, 1)}}
	now := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tick := make(chan time.Time)
	go l.renewAt(ctx, tick, changing{&agent{}, now})
	for _, step := range []struct{ does, told string }{{"", ""}, {"a", "a"}, {"a", ""}, {"b", "b"}} {
		now <- step.does
		tick <- time.Time{}
		if got := <-l.stream.(*renewals).sent; string(got.GetLoads()) != step.told {
			t.Errorf("%q was told as %q", step.does, got.GetLoads())
		}
	}
}

// changing is an agent whose devices do what it is given.
type changing struct {
	*agent
	now chan string
}

func (c changing) Loads() []byte { return []byte(<-c.now) }

// renewals is a stream of renewals.
type renewals struct {
	wire.Channel_ConnectClient
	sent chan *wire.Renew
}

func (r *renewals) Send(m *wire.FromNode) error {
	r.sent <- m.GetRenew()
	return nil
}

func TestWhatANodeSaysOfItsDevicesArrives(t *testing.T) {
	t.Parallel()
	p := connect(t, &agent{loads: []byte(`{"GPU-1":{"memoryFree":7}}`)})
	p.client.Devices([]byte(`[{"id":"GPU-1","fault":"Xid 79"}]`))
	if got := <-p.fleet.devices; len(got) != 1 || got[0].Fault != "Xid 79" {
		t.Errorf("the devices are %+v", got)
	}
	if got := <-p.fleet.loads; got["GPU-1"].MemoryFree != 7 {
		t.Errorf("they do %+v", got)
	}
	for _, wrong := range []string{`{`, `[{"id":""}]`, `[{"id":"a\u0000"}]`, `[{"id":"` + strings.Repeat("x", 129) + `"}]`} {
		p.client.Devices([]byte(wrong)) // the node has to say all anew
		<-p.agent.ended
	}
	if len(p.fleet.devices) > 0 {
		t.Errorf("what no node has was taken: %+v", <-p.fleet.devices)
	}
}
