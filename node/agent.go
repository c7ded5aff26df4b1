// Package node is the agent of a machine that runs functions. It builds
// runtimes, keeps a worker in each slot that it was given, and runs executions
// there. Servers reach it over the node channel only; it knows neither the
// database nor Temporal.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

// Config says what an agent works with.
type Config struct {
	Dir         string // of the node: identity, slots
	Server      string // host:port of any server
	Name        string // to join under
	JoinToken   string // one-time token, when the node has not joined yet
	Inventory   warpket.Inventory
	Runtimes    *runtimes.Store
	Launcher    sandbox.Launcher
	Egress      egress.Config                                  // what functions with a network may reach
	Images      *image.Store                                   // nil on a node that cannot run images
	ReadyMemory int64                                          // bytes for interpreters that are kept ready, see worker.Pool
	GPUs        GPUs                                           // nil on a node without
	Speed       func(context.Context) ([]warpket.Speed, error) // measures the machine's own simulator; nil to leave it
	Connected   func()                                         // called when a server has taken the node in, each time
	Log         *slog.Logger
}

// Agent is one node.
type Agent struct {
	config Config
	boot   warpket.ID
	pool   *worker.Pool
	client *channel.Client
	alone  func() time.Duration // for how long no server has been heard
	http   *http.Client

	loads   atomic.Pointer[[]byte] // JSON
	telling sync.Mutex
	running sync.WaitGroup // what goes on beside calls

	mu         sync.Mutex
	devices    []warpket.Device // of the inventory, as they are now; never changed in place
	slots      map[warpket.ID]*slot
	executions map[attempt]*execution
	recorded   *recent // attempts whose outcome a server has recorded
	unwanted   *recent // attempts that were cancelled before they came
}

// attempt names one attempt of an execution.
type attempt struct {
	execution warpket.ID
	number    int32
}

// New makes an agent.
func New(config Config) *Agent {
	return &Agent{
		config: config, boot: warpket.NewID(time.Now()), http: &http.Client{Timeout: 5 * time.Minute},
		alone: func() time.Duration { return 0 }, devices: config.Inventory.Devices,
		slots: map[warpket.ID]*slot{}, executions: map[attempt]*execution{}, recorded: newRecent(10_000), unwanted: newRecent(1_000),
	}
}

// Run joins if the node has not joined yet, and serves until ctx ends. Then all
// workers are ended.
func (a *Agent) Run(ctx context.Context) error {
	work := filepath.Join(a.config.Dir, "slots")
	if err := os.RemoveAll(work); err != nil { // what an agent before this one left
		return fmt.Errorf("clearing the folder of slots: %w", err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return fmt.Errorf("making the folder of slots: %w", err)
	}
	harness, err := worker.WriteHarness(filepath.Join(a.config.Dir, "harness"))
	if err != nil {
		return err
	}
	a.pool = worker.NewPool(a.config.Launcher, harness, a.config.ReadyMemory, a.config.Log)
	defer a.pool.Close()
	a.config.Runtimes.BeforeRemoval(a.pool.Forget)
	identity, err := a.identity(ctx)
	if err != nil {
		return err
	}
	if a.client, err = channel.NewClient(identity, a, a.config.Log); err != nil {
		return err
	}
	a.alone = a.client.Alone
	a.watchDevices(ctx)
	err = a.client.Run(ctx, a.config.Server)
	a.endAll()
	a.running.Wait()
	return err
}

func (a *Agent) identity(ctx context.Context) (channel.Identity, error) {
	file := filepath.Join(a.config.Dir, "identity.json")
	id, err := channel.LoadIdentity(file)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if a.config.JoinToken == "" {
		return id, warpket.Errorf(warpket.Unauthenticated, "this node has not joined yet: give it a one-time token (--join-token), which an operator gets by POST /v1/nodes/tokens")
	}
	if id, err = channel.Join(ctx, a.config.Server, a.config.JoinToken, a.config.Name); err != nil {
		return id, err
	}
	return id, id.Save(file)
}

// Hello says what the node has and holds.
func (a *Agent) Hello() *wire.Hello {
	a.mu.Lock()
	defer a.mu.Unlock()
	has := a.config.Inventory
	has.Devices = a.devices
	inventory, _ := json.Marshal(has) // plain data: cannot fail
	hello := &wire.Hello{Boot: string(a.boot), Inventory: inventory}
	for _, s := range a.slots {
		hello.Slots = append(hello.Slots, s.state())
	}
	for id, e := range a.executions {
		select {
		case <-e.done:
			hello.Kept = append(hello.Kept, &wire.Ack{Execution: string(id.execution), Attempt: id.number})
		default:
		}
	}
	return hello
}

// Kept says what the node keeps ready.
func (a *Agent) Kept() []*wire.KeptReady {
	var kept []*wire.KeptReady
	for _, k := range a.pool.Kept() {
		kept = append(kept, &wire.KeptReady{Runtime: k.Runtime, Project: string(k.Project), Workers: int32(k.Workers)}) //nolint:gosec // a few
	}
	return kept
}

// End ends slots that are no longer this node's, with what runs in them.
func (a *Agent) End(refs []*wire.SlotRef) {
	for _, ref := range refs {
		if s := a.take(warpket.ID(ref.GetSlot()), ref.GetGeneration()); s != nil {
			a.config.Log.Warn("slot taken back by the server", "slot", s.id)
			s.end()
		}
	}
	a.config.Connected()
}

func (a *Agent) endAll() {
	a.mu.Lock()
	slots := a.slots
	a.slots = map[warpket.ID]*slot{}
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range slots {
		wg.Go(s.end)
	}
	wg.Wait()
}

// take removes a slot from the node's, if it is of that generation.
func (a *Agent) take(id warpket.ID, generation int64) *slot {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.slots[id]
	if s == nil || s.generation != generation {
		return nil
	}
	delete(a.slots, id)
	return s
}

// Call does what a server asks.
func (a *Agent) Call(ctx context.Context, from *channel.Link, call *wire.Call) *wire.Reply {
	arrived := time.Now()
	reply := &wire.Reply{}
	var err error
	switch what := call.GetWhat().(type) {
	case *wire.Call_Lock:
		var lock string
		lock, err = a.lock(ctx, what.Lock.GetRuntime(), progress(from, call))
		reply.What = &wire.Reply_Lock{Lock: &wire.LockReply{Lock: lock}}
	case *wire.Call_Install:
		err = a.installOrPull(ctx, what.Install, progress(from, call))
	case *wire.Call_Build:
		var built *wire.BuildReply
		built, err = a.build(ctx, what.Build, progress(from, call))
		reply.What = &wire.Reply_Build{Build: built}
	case *wire.Call_Prepare:
		var prepared *wire.PrepareReply
		prepared, err = a.prepare(ctx, what.Prepare, progress(from, call))
		reply.What = &wire.Reply_Prepare{Prepare: prepared}
	case *wire.Call_Release:
		err = a.release(warpket.ID(what.Release.GetSlot()), what.Release.GetGeneration(), what.Release.GetIfIdle())
	case *wire.Call_Run:
		var out *wire.Outcome
		out, err = a.run(ctx, from, what.Run, arrived)
		reply.What = &wire.Reply_Outcome{Outcome: out}
	case *wire.Call_Attach:
		var out *wire.Outcome
		out, err = a.attach(ctx, from, attempt{warpket.ID(what.Attach.GetExecution()), what.Attach.GetAttempt()}, arrived)
		reply.What = &wire.Reply_Outcome{Outcome: out}
	case *wire.Call_Cancel:
		err = a.cancel(attempt{warpket.ID(what.Cancel.GetExecution()), what.Cancel.GetAttempt()})
	case *wire.Call_Ack:
		a.forget(attempt{warpket.ID(what.Ack.GetExecution()), what.Ack.GetAttempt()})
		return nil
	default:
		err = warpket.Errorf(warpket.Invalid, "this node does not know that call: update it")
	}
	if err != nil {
		if warpket.KindOf(err) == warpket.Internal {
			a.config.Log.Error("call failed", "call", fmt.Sprintf("%T", call.GetWhat()), "error", err)
		}
		return channel.ErrorReply(err)
	}
	return reply
}

func progress(link *channel.Link, call *wire.Call) func(string) {
	return func(text string) { link.Progress(call.GetId(), text) }
}

func keyOf(r *wire.Runtime) warpket.RuntimeKey {
	return warpket.RuntimeKey{SDK: r.GetSdk(), SDKVersion: r.GetSdkVersion(), Python: r.GetPython(), Platform: r.GetPlatform(), Requirements: r.GetRequirements()}
}

func (a *Agent) lock(ctx context.Context, r *wire.Runtime, say func(string)) (string, error) {
	spec := runtimes.LockSpec{Key: keyOf(r), Project: warpket.ID(r.GetProject()), Packages: r.GetPackages(), Requirements: r.GetLines()}
	if r.GetReleasedUntil() != 0 {
		spec.Until = time.Unix(r.GetReleasedUntil(), 0).UTC()
	}
	return a.config.Runtimes.Lock(ctx, spec, say)
}

func (a *Agent) install(ctx context.Context, r *wire.Runtime, say func(string)) (runtimes.Env, error) {
	env, err := a.config.Runtimes.Install(ctx, runtimes.InstallSpec{Key: keyOf(r), Project: warpket.ID(r.GetProject()), Lock: r.GetLock(), Smoke: r.GetSmoke()}, say)
	if err == nil && r.GetRequirements() == "" {
		a.pool.Warm(env) //nolint:contextcheck // what is kept ready outlives the call
	}
	return env, err
}

// installOrPull has here what a runtime is made of, for slots to come.
func (a *Agent) installOrPull(ctx context.Context, in *wire.Install, say func(string)) error {
	if in.GetImage() == nil {
		env, err := a.install(ctx, in.GetRuntime(), say)
		env.Release()
		return err
	}
	pulled, err := a.pull(ctx, in.GetRuntime().GetProject(), in.GetImage(), say)
	if err == nil {
		pulled.Release()
	}
	return err
}

// pull gets an image, which stays until it is released.
func (a *Agent) pull(ctx context.Context, project string, in *wire.Image, say func(string)) (*image.Image, error) {
	if a.config.Images == nil {
		return nil, warpket.Errorf(warpket.Unavailable, "this node cannot run images: its isolation is %s, and they need namespaces or gvisor", a.config.Launcher.Isolation().Kind)
	}
	auth := in.GetAuth()
	in.Auth = nil // kept no longer than needed
	say("pulling the image")
	pulled, err := a.config.Images.Pull(ctx, image.Request{
		Ref: in.GetReference(), Project: project, Auth: image.Auth{User: auth.GetUser(), Password: auth.GetPassword(), Token: auth.GetToken()},
	}, say)
	if err == nil {
		return pulled, nil
	}
	e, known := errors.AsType[*warpket.Error](err)
	if !known {
		return nil, fmt.Errorf("pulling the image: %w", err)
	}
	say(e.Message) // it may be tried again and again
	if !e.Kind.Retryable() {
		return nil, warpket.Because(warpket.Invalid, err, "%s", e.Message) // such as Denied, which speaks of the registry, not of the slot
	}
	return nil, err
}

func failureOf(f *warpket.Failure) *wire.Failure {
	if f == nil {
		return nil
	}
	return &wire.Failure{Code: string(f.Code), Message: f.Message, Traceback: f.Traceback}
}

// recent remembers the last so many attempts.
type recent struct {
	known map[attempt]bool
	ring  []attempt
	next  int
}

func newRecent(n int) *recent { return &recent{known: map[attempt]bool{}, ring: make([]attempt, n)} }

func (r *recent) add(a attempt) {
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = a
	r.known[a] = true
	r.next = (r.next + 1) % len(r.ring)
}
