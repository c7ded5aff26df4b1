package workflows

import (
	stdcmp "cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/testsuite"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/teststack"
)

// cluster is servers and nodes on one database, without Temporal.
type cluster struct {
	t         *testing.T
	url       string
	store     *postgres.Store
	authority *channel.Authority
	project   warpket.ID
	public    string  // address that servers tell nodes; each its own unless set
	client    *Client // of Temporal; none unless set
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, url: teststack.Postgres(t)}
	var err error
	c.store, err = postgres.Open(t.Context(), c.url)
	c.must(err)
	t.Cleanup(c.store.Close)
	certificate, key, err := channel.NewAuthority()
	c.must(err)
	c.authority, err = channel.LoadAuthority(certificate, key)
	c.must(err)
	p := warpket.Project{ID: warpket.NewID(time.Now()), Name: "one", CreatedDate: time.Now()}
	c.must(c.store.CreateProject(t.Context(), p))
	c.project = p.ID
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// exec runs a statement behind everyone's back.
func (c *cluster) exec(sql string, args ...any) {
	c.t.Helper()
	ctx := context.WithoutCancel(c.t.Context())
	conn, err := pgx.Connect(ctx, c.url)
	c.must(err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql, args...)
	c.must(err)
}

// testServer is one server of the cluster, as far as nodes and the API see it.
type testServer struct {
	*Activities
	fleet   *Fleet
	cluster *cluster
	address string
	kill    func() // as SIGKILL would: nothing is tidied up, but for its lease, which runs out at once
}

func (c *cluster) server() *testServer {
	t := c.t
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	c.must(err)
	id := warpket.NewID(time.Now())
	s := &testServer{cluster: c, address: l.Addr().String()}
	s.Activities = New(Config{ServerID: id, Store: c.store, Hub: live.New(), Catalog: anyTemplate{}, Client: c.client, Now: time.Now, IdleSlot: time.Minute, Log: slog.New(slog.DiscardHandler)})
	s.fleet = &Fleet{Activities: s.Activities, Server: postgres.Server{ID: id, Channel: stdcmp.Or(c.public, s.address), Peer: s.address}}
	s.Nodes = channel.NewServer(id, c.authority, s.fleet, s.Log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.fleet.Run(ctx) })
	wg.Go(func() { _ = s.Nodes.Serve(ctx, l) })
	s.kill = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		c.exec(`update servers set lease_until = now() - interval '1 second' where id = $1`, id)
	})
	t.Cleanup(s.kill)
	return s
}

type anyTemplate struct{}

func (anyTemplate) Template(string) (warpket.Template, error) { return warpket.Template{}, nil }

// testNode is a node with room for one slot, whose code does what a test says.
type testNode struct {
	cluster *cluster
	id      channel.Identity
	address string
	boot    warpket.ID
	client  *channel.Client
	handler func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome

	mu     sync.Mutex
	slots  []*wire.SlotState
	begun  map[string]*begun // by execution and attempt: each starts once
	acked  map[string]bool
	pulled []*wire.Install
	builds []*wire.Build // each fails to compile
	killed bool          // whether the compiler is, rather
	stop   func()
	broken func() *wire.Failure // why code does not load; all does unless set
	served chan struct{}        // receives when a server has taken the node in

	attached int // how often a server has asked for an outcome and a log
}

type begun struct {
	starts  int
	cancel  context.CancelFunc
	done    chan struct{}
	outcome *wire.Outcome
}

func (c *cluster) node(s *testServer, handler func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome) *testNode {
	t := c.t
	t.Helper()
	id, secret := warpket.NewID(time.Now()), warpket.Secret()
	c.must(c.store.CreateNodeToken(t.Context(), id, warpket.HashSecret(secret), time.Now(), time.Now().Add(time.Hour)))
	identity, err := channel.Join(t.Context(), s.address, c.authority.JoinToken(id, secret), "node")
	c.must(err)
	n := &testNode{cluster: c, id: identity, address: s.address, handler: handler, served: make(chan struct{}, 100)}
	n.start()
	return n
}

// start starts the agent anew: it remembers nothing.
func (n *testNode) start() {
	n.slots, n.begun, n.acked = nil, map[string]*begun{}, map[string]bool{}
	n.boot = warpket.NewID(time.Now())
	n.connect()
}

// connect has the node connect to its server, and to those that this tells of.
func (n *testNode) connect() {
	var err error
	n.client, err = channel.NewClient(n.id, n, slog.New(slog.DiscardHandler))
	n.cluster.must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.cluster.t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.client.Run(ctx, n.address) })
	n.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	n.cluster.t.Cleanup(n.stop)
	<-n.served
}

func (n *testNode) Hello() *wire.Hello {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &wire.Hello{Boot: string(n.boot), Inventory: []byte(`{"platform":"linux/amd64","cpu":1000,"memory":1073741824,"pythons":["3.11"],"images":true}`), Slots: n.slots}
}
func (n *testNode) Kept() []*wire.KeptReady { return nil }

func (n *testNode) Loads() []byte       { return nil }
func (n *testNode) End([]*wire.SlotRef) { n.served <- struct{}{} }

func (n *testNode) Call(ctx context.Context, from *channel.Link, call *wire.Call) *wire.Reply {
	switch what := call.GetWhat().(type) {
	case *wire.Call_Prepare:
		n.mu.Lock()
		broken := n.broken
		n.mu.Unlock()
		if broken != nil {
			return &wire.Reply{What: &wire.Reply_Prepare{Prepare: &wire.PrepareReply{LoadFailure: broken()}}}
		}
		slot := &wire.SlotState{Slot: what.Prepare.GetSlot(), Generation: what.Prepare.GetGeneration(), Snapshot: what.Prepare.GetSnapshot(), Ready: true, Cpu: what.Prepare.GetCpu(), Memory: what.Prepare.GetMemory()}
		n.mu.Lock()
		n.slots = append(n.slots, slot)
		n.mu.Unlock()
		n.client.SlotReady(slot)
		return &wire.Reply{What: &wire.Reply_Prepare{Prepare: &wire.PrepareReply{}}}
	case *wire.Call_Install:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.pulled = append(n.pulled, what.Install)
	case *wire.Call_Build:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.builds = append(n.builds, what.Build)
		if n.killed {
			return &wire.Reply{What: &wire.Reply_Build{Build: &wire.BuildReply{Failure: &wire.Failure{Code: string(warpket.OutOfMemory), Message: "it needed too much"}}}}
		}
		return &wire.Reply{What: &wire.Reply_Build{Build: &wire.BuildReply{Log: []byte("main.cu(1): error\x00\xff"), Failure: &wire.Failure{Code: string(warpket.BuildFailed), Message: "main.cu(1): error"}}}}
	case *wire.Call_Run:
		b, err := n.begin(ctx, from, what.Run)
		if err != nil {
			return channel.ErrorReply(channel.Refused{Cause: err})
		}
		select {
		case <-b.done:
			return &wire.Reply{What: &wire.Reply_Outcome{Outcome: b.outcome}}
		case <-from.Broken():
			return channel.ErrorReply(channel.ErrBroken)
		}
	case *wire.Call_Attach:
		n.mu.Lock()
		n.attached++
		b := n.begun[key(what.Attach.GetExecution(), what.Attach.GetAttempt())]
		n.mu.Unlock()
		if b == nil {
			return channel.ErrorReply(warpket.Errorf(warpket.NotFound, "it is not known here"))
		}
		from.Log(warpket.ID(what.Attach.GetExecution()), what.Attach.GetAttempt(), 0, []byte("hello"))
		<-b.done
		return &wire.Reply{What: &wire.Reply_Outcome{Outcome: b.outcome}}
	case *wire.Call_Cancel:
		n.mu.Lock()
		defer n.mu.Unlock()
		if b := n.begun[key(what.Cancel.GetExecution(), what.Cancel.GetAttempt())]; b != nil {
			b.cancel()
		}
	case *wire.Call_Release: // as a node does, once what runs there has ended
		n.mu.Lock()
		all := slices.Collect(maps.Values(n.begun))
		n.mu.Unlock()
		for _, b := range all {
			select {
			case <-b.done:
				continue
			default:
			}
			if what.Release.GetIfIdle() {
				return channel.ErrorReply(warpket.Errorf(warpket.Conflict, "the slot is busy"))
			}
			<-b.done
		}
	case *wire.Call_Ack:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.acked[key(what.Ack.GetExecution(), what.Ack.GetAttempt())] = true
		return nil
	}
	return &wire.Reply{}
}

func key(execution string, attempt int32) string { return execution + "/" + string('0'+rune(attempt)) }

func (n *testNode) begin(ctx context.Context, from *channel.Link, run *wire.Run) (*begun, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := key(run.GetExecution(), run.GetAttempt())
	if b := n.begun[k]; b != nil {
		return b, nil
	}
	held := false
	for _, s := range n.slots {
		held = held || s.GetSlot() == run.GetSlot() && s.GetGeneration() == run.GetGeneration()
	}
	if !held {
		return nil, warpket.Errorf(warpket.NotFound, "slot %s is not held here", run.GetSlot())
	}
	b := &begun{starts: 1, done: make(chan struct{})}
	ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx)) // it outlives the connection
	n.begun[k] = b
	go func() {
		b.outcome = n.handler(ctx, from, run)
		close(b.done)
	}()
	return b, nil
}

func (n *testNode) starts() (all int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.begun {
		all += b.starts
	}
	return all
}

// execution is an express one of a function of its own.
func (c *cluster) execution() warpket.Execution { return c.executionOf("f") }

func (c *cluster) executionOf(function string) warpket.Execution {
	c.t.Helper()
	ctx, now := c.t.Context(), time.Now().UTC().Truncate(time.Microsecond)
	r, err := c.store.EnsureRuntime(ctx, warpket.Runtime{
		ID: warpket.NewID(now), RuntimeKey: warpket.RuntimeKey{SDK: "python", SDKVersion: "1", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Python", CreatedDate: now,
	})
	c.must(err)
	_, err = c.store.SaveRuntime(ctx, r.ID, warpket.RuntimeAvailable, "", "", now)
	c.must(err)
	f := warpket.Function{ID: warpket.NewID(now), ProjectID: c.project, Name: function, TemplateTag: "Python", SDK: "python", SDKVersion: "1", Settings: warpket.Settings{Lane: warpket.Express}, CreatedDate: now}
	v := warpket.Version{ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, Snapshot: warpket.Snapshot{ID: warpket.NewID(now), RuntimeID: r.ID, CreatedDate: now}, CreatedDate: now}
	c.must(c.store.CreateFunction(ctx, f, v))
	return warpket.Execution{
		ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, FunctionName: function, VersionNumber: 1, SnapshotID: v.Snapshot.ID, RuntimeID: r.ID,
		Lane: warpket.Express, Target: warpket.CPU, Tags: []string{"a"}, Input: warpket.Payload{Inline: []byte(`1`), Size: 1}, Shots: 1,
		Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30, Timeout: time.Minute}, Status: warpket.Queued, CreatedDate: now,
	}
}

// next is another execution of the same version.
func next(e warpket.Execution) warpket.Execution {
	e.ID = warpket.NewID(time.Now())
	return e
}

// final waits until an execution is final, by a server's own news.
func (s *testServer) final(id warpket.ID) warpket.Execution {
	s.cluster.t.Helper()
	news := s.Hub.Watch(id)
	defer news.Close()
	for {
		e, err := s.Store.ExecutionByID(s.cluster.t.Context(), id)
		if err == nil && e.Status.Final() {
			return e
		}
		if err != nil && warpket.KindOf(err) != warpket.NotFound {
			s.cluster.t.Fatal(err)
		}
		<-news.C
	}
}

func succeed(context.Context, *channel.Link, *wire.Run) *wire.Outcome {
	return &wire.Outcome{Status: string(warpket.Succeeded), Result: &wire.Payload{Inline: []byte(`"done"`), Size: 6}, Cpu: int64(time.Second), PeakMemory: 5, Isolation: "none"}
}

// gated succeeds when the gate is opened, or is cancelled.
func gated() (handler func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome, begun chan string, gate chan struct{}) {
	begun, gate = make(chan string, 100), make(chan struct{})
	return func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		begun <- run.GetExecution()
		select {
		case <-gate:
			return succeed(ctx, from, run)
		case <-ctx.Done():
			return &wire.Outcome{Status: string(warpket.Cancelled), Failure: &wire.Failure{Code: string(warpket.CancelledCode)}}
		}
	}, begun, gate
}

func TestAnExpressExecutionNeedsNoTemporal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	c.node(s, succeed)
	e := c.execution()
	c.must(s.Launch(t.Context(), e, true))
	got := s.final(e.ID)
	if got.Status != warpket.Succeeded || string(got.Result.Inline) != `"done"` || got.Attempt != 1 || got.NodeName != "node" || got.ServerID != s.ServerID {
		t.Errorf("it ended %+v", got)
	}
	if diff := cmp.Diff(warpket.Usage{CPU: time.Second, PeakMemory: 5}, got.Usage); diff != "" || got.Isolation != "none" {
		t.Errorf("isolation %q, usage %s", got.Isolation, diff)
	}
}

func TestExpressExecutionsTakeTurnsInTheirSlot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	var mu sync.Mutex
	var order []string
	running, most := 0, 0
	c.node(s, func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		mu.Lock()
		order = append(order, run.GetExecution())
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		return succeed(ctx, from, run)
	})
	e := c.execution()
	var all []warpket.ID
	var wg sync.WaitGroup
	for range 20 {
		e := next(e)
		all = append(all, e.ID)
		wg.Go(func() {
			if err := s.Launch(t.Context(), e, true); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range all {
		if got := s.final(id); got.Status != warpket.Succeeded || got.Attempt != 1 {
			t.Errorf("%s ended %s in attempt %d", id, got.Status, got.Attempt)
		}
	}
	if len(order) != 20 || most != 1 {
		t.Errorf("%d ran, up to %d at a time", len(order), most)
	}
}

func TestTooManyWaitingExpressExecutionsAreRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	e := c.execution()
	done := make([]func(), maxWaiting)
	for i := range done {
		var err error
		done[i], err = s.wait(e.ProjectID)
		c.must(err)
	}
	if err := s.Launch(t.Context(), e, true); warpket.KindOf(err) != warpket.OverQuota {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.Store.ExecutionByID(t.Context(), e.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Error("it was refused, and recorded")
	}
	if _, err := s.wait("another project"); err != nil {
		t.Errorf("another project: %v", err)
	}
	done[0]()
	done[0]() // once
	if _, err := s.wait(e.ProjectID); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	if _, err := s.wait(e.ProjectID); err == nil {
		t.Error("and then one too many")
	}
}

func TestAnotherServerGoesOnWhenTheOneThatDrivesDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.server()
	handler, begun, gate := gated()
	n := c.node(a, handler)
	e := c.execution()
	c.must(a.Launch(t.Context(), e, false))
	<-begun
	waiting := next(e)
	waiting.FunctionName = "waits"
	c.must(a.Launch(t.Context(), waiting, false))

	b := c.server()
	c.must(b.fleet.keepListed(t.Context()))
	c.must(a.fleet.keepListed(t.Context())) // so that the node is told of b
	n.stop()
	n.connect()
	<-n.served // by b, too
	a.kill()
	c.must(b.fleet.keepListed(t.Context()))
	close(gate)
	for _, id := range []warpket.ID{e.ID, waiting.ID} {
		if got := b.final(id); got.Status != warpket.Succeeded || got.Attempt != 1 || got.ServerID != b.ServerID {
			t.Errorf("%s ended %+v", id, got)
		}
	}
	if n.starts() != 2 {
		t.Errorf("user code was started %d times", n.starts())
	}
}

func TestAnExpressExecutionIsLostWhenItsNodeComesBackWithoutIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	handler, begun, _ := gated()
	n := c.node(s, handler)
	e := c.execution()
	c.must(s.Launch(t.Context(), e, false))
	<-begun
	n.stop()
	if got, err := s.Store.ExecutionByID(t.Context(), e.ID); err != nil || got.Status != warpket.Running {
		t.Errorf("while the node may come back it is %s (%v)", got.Status, err)
	}
	n.start()
	got := s.final(e.ID)
	if got.Status != warpket.Lost || got.Error == nil || got.Error.Code != warpket.LostCode {
		t.Errorf("it ended %+v", got)
	}
}

func TestAStartRowThatACrashHasTakenIsWrittenAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	handler, begun, gate := gated()
	c.node(s, handler)
	e := c.execution()
	c.must(s.Launch(t.Context(), e, true))
	<-begun
	c.exec(`delete from executions`)
	close(gate)
	got := s.final(e.ID)
	if got.Status != warpket.Succeeded || got.FunctionName != "f" || string(got.Input.Inline) != `1` || string(got.Result.Inline) != `"done"` || got.Attempt != 1 || got.FinishedDate == nil {
		t.Errorf("it was recorded as %+v", got)
	}
}

// Another activity goes on with what takes longer than the first has time for,
// and in another server: that is no part of how long it was queued or placed.
func TestTimingsAreThoseOfTheFirstSending(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	handler, begun, gate := gated()
	s := c.server()
	c.node(s, func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		out := handler(ctx, from, run)
		out.Ran = int64(time.Hour) // however long that really was
		return out
	})
	e := c.execution()
	asked := time.Now()
	s.Hub.Begin(e.ID, asked)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	_, err := c.store.CreateExecution(t.Context(), e)
	c.must(err)
	news := s.Hub.Watch(e.ID)
	defer news.Close()
	if err := s.see(ctx, e, news, func() {}); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first is over: %v", err)
	}
	sent := time.Since(asked)
	e, err = c.store.ExecutionByID(t.Context(), e.ID)
	c.must(err)
	close(gate)
	c.must(s.see(t.Context(), e, news, func() {}))
	if e = s.final(e.ID); e.Timings.Queued > sent || e.Timings.Placed != 0 || e.Timings.Ran != time.Hour {
		t.Errorf("it was sent within %s, and its timings are %+v", sent, e.Timings)
	}
}

func TestAnExpressExecutionIsTriedAgainAsOftenAsItMay(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	c.node(s, func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		if run.GetAttempt() < 3 {
			return &wire.Outcome{Status: string(warpket.Failed), Failure: &wire.Failure{Code: string(warpket.Raised)}}
		}
		return succeed(ctx, from, run)
	})
	e := c.execution()
	e.Retries = 2
	c.must(s.Launch(t.Context(), e, true))
	if got := s.final(e.ID); got.Status != warpket.Succeeded || got.Attempt != 3 {
		t.Errorf("it ended %s in attempt %d", got.Status, got.Attempt)
	}
	e = next(e)
	e.Retries = 1
	c.must(s.Launch(t.Context(), e, true))
	if got := s.final(e.ID); got.Status != warpket.Failed || got.Attempt != 2 {
		t.Errorf("it ended %s in attempt %d", got.Status, got.Attempt)
	}
}

func TestExpressExecutionsAreCancelledWhetherTheyRunOrWait(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	handler, begun, _ := gated()
	n := c.node(s, handler)
	e := c.execution()
	c.must(s.Launch(t.Context(), e, false))
	<-begun
	waiting := next(e)
	c.must(s.Launch(t.Context(), waiting, false))
	for _, id := range []warpket.ID{waiting.ID, e.ID} {
		_, err := s.CancelExecution(t.Context(), c.project, id)
		c.must(err)
		if got := s.final(id); got.Status != warpket.Cancelled {
			t.Errorf("it ended %s", got.Status)
		}
	}
	if n.starts() != 1 {
		t.Errorf("%d were started", n.starts())
	}
}

// between is two servers of which nodes know only the first; a node of its; and
// an execution.
func between(t *testing.T, handler func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome) (near, far *testServer, n *testNode, e warpket.Execution) {
	t.Helper()
	c := newCluster(t)
	near = c.server()
	c.public = near.address
	far = c.server()
	n = c.node(near, handler)
	c.must(far.Nodes.Connected(t.Context(), n.id.NodeID))
	return near, far, n, c.execution()
}

func TestAServerCallsANodeThroughTheOneThatItIsConnectedTo(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	_, far, n, e := between(t, func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		from.Log(warpket.ID(run.GetExecution()), run.GetAttempt(), 0, []byte("hello"))
		<-gate
		return succeed(ctx, from, run)
	})
	c := far.cluster
	c.must(far.Launch(t.Context(), e, false)) // cold: the slot is made through the other server, too
	log := far.Hub.Log(e.ID)
	for _, data, _, more := log.Read(live.Place{}); string(data) != "hello"; _, data, _, more = log.Read(live.Place{}) {
		<-more
	}
	close(gate)
	if got := far.final(e.ID); got.Status != warpket.Succeeded || got.Attempt != 1 || got.ServerID != far.ServerID || got.NodeName != "node" {
		t.Errorf("it ended %+v", got)
	}
	if _, idle := far.Nodes.Serves(e.SnapshotID, e.Revision, e.Resources); !idle {
		t.Error("its slot is not known to be idle")
	}

	durable := next(e)
	durable.Lane, durable.ServerID = warpket.Durable, far.ServerID
	_, err := c.store.CreateExecution(t.Context(), durable)
	c.must(err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(far.Activities)
	if _, err := env.ExecuteActivity(far.Attach, durable.ID); err != nil {
		t.Error(err)
	}
	if got := far.final(durable.ID); got.Status != warpket.Succeeded || got.Attempt != 1 {
		t.Errorf("the durable one ended %+v", got)
	}
	if n.starts() != 2 {
		t.Errorf("user code was started %d times", n.starts())
	}
}

func TestALogIsFollowedFromAnyServer(t *testing.T) {
	t.Parallel()
	for name, nearDrives := range map[string]bool{"through the server that drives it": true, "from a server with a stream of the node": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler, begun, gate := gated()
			near, far, _, e := between(t, handler)
			drives, reads := far, near
			if nearDrives {
				drives, reads = near, far
			}
			drives.cluster.must(drives.Launch(t.Context(), e, false))
			<-begun
			e, err := drives.Store.ExecutionByID(t.Context(), e.ID)
			drives.cluster.must(err)
			news := reads.Hub.Watch(e.ID)
			defer news.Close()
			followed := make(chan struct{})
			go func() { reads.fleet.FollowLog(t.Context(), e); close(followed) }()
			log := reads.Hub.Log(e.ID)
			for _, data, _, more := log.Read(live.Place{}); string(data) != "hello"; _, data, _, more = log.Read(live.Place{}) {
				<-more
			}
			close(gate)
			<-followed
			if got := drives.final(e.ID); got.Status != warpket.Succeeded || got.ServerID != drives.ServerID {
				t.Errorf("it ended %+v", got)
			}
		})
	}
}

func TestThoseWhoFollowALogShareItAndItGoesOnWithoutThem(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan string, 1), make(chan struct{})
	near, far, n, e := between(t, func(ctx context.Context, from *channel.Link, run *wire.Run) *wire.Outcome {
		begun <- run.GetExecution()
		<-gate
		from.Log(warpket.ID(run.GetExecution()), run.GetAttempt(), 5, []byte(" again"))
		<-gate
		return succeed(ctx, from, run)
	})
	c := far.cluster
	c.must(far.Launch(t.Context(), e, false))
	<-begun
	e, err := c.store.ExecutionByID(t.Context(), e.ID)
	c.must(err)
	follow := func() (leave func()) { // returns when it reads what was there
		ctx, cancel := context.WithCancel(t.Context())
		news, left := near.Hub.Watch(e.ID), make(chan struct{})
		go func() { near.fleet.FollowLog(ctx, e); close(left) }()
		near.logIs(e.ID, "hello")
		return func() { cancel(); <-left; news.Close() }
	}
	for range 3 {
		follow()()
	}
	gate <- struct{}{}
	news := near.Hub.Watch(e.ID)
	defer news.Close()
	near.logIs(e.ID, "hello again")
	n.mu.Lock()
	attached := n.attached
	n.mu.Unlock()
	if attached != 1 {
		t.Errorf("the node was asked %d times, and sends its log to each", attached)
	}
	close(gate)
	far.final(e.ID)
}

// logIs returns when the log has come here so far.
func (s *testServer) logIs(execution warpket.ID, text string) {
	log := s.Hub.Log(execution)
	for _, data, _, more := log.Read(live.Place{}); string(data) != text; _, data, _, more = log.Read(live.Place{}) {
		<-more
	}
}

func TestACancelGoesThroughTheOtherServer(t *testing.T) {
	t.Parallel()
	handler, begun, _ := gated()
	_, far, _, e := between(t, handler)
	far.cluster.must(far.Launch(t.Context(), e, false))
	<-begun
	_, err := far.CancelExecution(t.Context(), e.ProjectID, e.ID)
	far.cluster.must(err)
	if got := far.final(e.ID); got.Status != warpket.Cancelled {
		t.Errorf("it ended %+v", got)
	}
}

func TestTheServerWithTheNodeGoesOnWhenTheOneThatAskedDies(t *testing.T) {
	t.Parallel()
	handler, begun, gate := gated()
	near, far, n, e := between(t, handler)
	c := far.cluster
	c.must(far.Launch(t.Context(), e, false))
	<-begun
	c.must(near.fleet.keepListed(t.Context())) // it knows of the other
	far.kill()
	c.must(near.fleet.keepListed(t.Context()))
	close(gate)
	if got := near.final(e.ID); got.Status != warpket.Succeeded || got.ServerID != near.ServerID || n.starts() != 1 {
		t.Errorf("after %d starts it ended %+v", n.starts(), got)
	}
}

func TestAnExecutionGoesOnWhenTheServerInBetweenDies(t *testing.T) {
	t.Parallel()
	handler, begun, gate := gated()
	near, far, n, e := between(t, handler)
	far.cluster.must(far.Launch(t.Context(), e, false))
	<-begun
	near.kill()
	n.stop()
	n.address = far.address // as a load balancer would see to
	n.connect()
	close(gate)
	if got := far.final(e.ID); got.Status != warpket.Succeeded || got.Attempt != 1 || n.starts() != 1 {
		t.Errorf("after %d starts it ended %+v", n.starts(), got)
	}
}
