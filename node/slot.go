package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/worker"
)

// waiting is how many calls may wait in a slot behind the one that runs.
const waiting = 1

// slot is a place for one worker.
type slot struct {
	agent      *Agent
	id         warpket.ID
	generation int64
	in         *wire.Prepare
	dir        string
	env        runtimes.Env       // if it runs files
	binary     string             // path of what was compiled of the files; empty for none
	image      *image.Image       // if it runs one: held until the slot ends
	lease      accelerators.Lease // of its GPUs; nil without
	simulated  bool               // its devices are only declared: nothing is fetched, and nothing runs

	prepared chan struct{} // closed when the two below are set
	failure  *warpket.Failure
	err      error

	turn chan struct{} // holds one token: whoever has it has the worker
	mu   sync.Mutex
	// Guarded by mu:
	calls  int // that run or wait
	ready  bool
	closed bool
	quiet  chan struct{} // closed when the slot is closed and no call is left
	idle   *time.Timer

	worker runner         // guarded by turn
	target warpket.Target // that worker has served; empty before the first call; guarded by turn
	ctx    context.Context
	kill   context.CancelFunc // ends what runs
}

// runner is what a slot asks of its worker, of whatever kind.
type runner interface {
	Run(ctx context.Context, call worker.Call, log io.Writer) warpket.Outcome
	Alive() bool                   // whether it can answer calls; if not it is closed and replaced
	LoadFailure() *warpket.Failure // why every call will fail; nil if it need not
	Close() error
}

func (s *slot) state() *wire.SlotState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &wire.SlotState{Slot: string(s.id), Generation: s.generation, Snapshot: s.in.GetSnapshot(), Ready: s.ready, Cpu: s.in.GetCpu(), Memory: s.in.GetMemory(), Revision: s.in.GetRevision(), Resources: s.in.GetResources(), Devices: s.in.GetDevices()}
}

// prepare puts a worker into a slot and says why its code does not load, if so.
// Preparing a slot again that is of the same generation waits for the first,
// and answers the revision which that one brought.
func (a *Agent) prepare(ctx context.Context, in *wire.Prepare, say func(string)) (*wire.PrepareReply, error) {
	id := warpket.ID(in.GetSlot())
	a.mu.Lock()
	s := a.slots[id]
	if s != nil && s.generation > in.GetGeneration() {
		a.mu.Unlock()
		return nil, warpket.Errorf(warpket.Conflict, "slot %s was handed out again", id)
	}
	if s == nil || s.generation < in.GetGeneration() {
		older := s
		s = a.newSlot(ctx, id, in)
		a.slots[id] = s
		a.mu.Unlock()
		if older != nil {
			older.end()
		}
		s.failure, s.err = s.start(s.ctx, say) //nolint:contextcheck // a slot outlives the call that prepares it
		if s.err != nil {
			a.take(id, s.generation)
			s.clear()
			a.client.SlotGone(id, s.generation)
		}
		close(s.prepared)
	} else {
		a.mu.Unlock()
	}
	select {
	case <-s.prepared:
		return &wire.PrepareReply{LoadFailure: failureOf(s.failure), Revision: s.in.GetRevision()}, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *Agent) newSlot(ctx context.Context, id warpket.ID, in *wire.Prepare) *slot {
	s := &slot{
		agent: a, id: id, generation: in.GetGeneration(), in: in, prepared: make(chan struct{}), turn: make(chan struct{}, 1),
		dir: filepath.Join(a.config.Dir, "slots", fmt.Sprintf("%s-%d", id, in.GetGeneration())),
	}
	s.ctx, s.kill = context.WithCancel(ctx)
	return s
}

// start gets what the slot is to run, and loads it.
func (s *slot) start(ctx context.Context, say func(string)) (*warpket.Failure, error) {
	if err := s.takeDevices(); err != nil {
		return nil, err
	}
	if err := s.get(ctx, say); err != nil {
		return nil, err
	}
	say("loading the code")
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, warpket.Errorf(warpket.Conflict, "slot %s was given up", s.id)
	}
	s.ready = true
	s.mu.Unlock()
	s.turn <- struct{}{}
	s.rest()
	s.agent.client.SlotReady(s.state())
	return s.worker.LoadFailure(), nil
}

// get checks that the slot is to run what its digest stands for, and has that
// here: the runtime or the image, and the files.
func (s *slot) get(ctx context.Context, say func(string)) (err error) {
	if s.simulated {
		return nil // nothing runs on devices that are only declared
	}
	snapshot := warpket.Snapshot{Entry: s.in.GetEntry()}
	for _, f := range s.in.GetFiles() {
		snapshot.Files = append(snapshot.Files, warpket.File{Path: f.GetPath(), SHA256: f.GetSha256(), Size: f.GetSize()})
	}
	in := s.in.GetImage()
	if in != nil {
		snapshot.Image = &warpket.Image{Pinned: in.GetReference(), Command: in.GetCommand()}
	}
	if in == nil || len(snapshot.Files) > 0 {
		if err := warpket.CheckFiles(snapshot.Files); err != nil {
			return err
		}
	}
	if snapshot.DigestFor(keyOf(s.in.GetRuntime())) != s.in.GetDigest() {
		return warpket.Errorf(warpket.Invalid, "the files or the image of snapshot %s are not those of its digest", s.in.GetSnapshot())
	}
	if in != nil {
		s.image, err = s.agent.pull(ctx, s.in.GetProject(), in, say)
	} else {
		s.env, err = s.agent.install(ctx, s.in.GetRuntime(), say)
	}
	if err != nil || len(snapshot.Files) == 0 {
		return err
	}
	say("fetching files")
	if b := s.in.GetBinary(); b != nil {
		dir := filepath.Join(s.dir, "binary")
		if err := s.agent.fetch(ctx, dir, []*wire.File{{Path: "program", Sha256: b.GetSha256(), Size: b.GetSize(), Url: b.GetUrl()}}, 0o555); err != nil {
			return err
		}
		s.binary = filepath.Join(dir, "program")
	}
	return s.fetch(ctx)
}

// fetch writes the snapshot's files.
func (s *slot) fetch(ctx context.Context) error {
	return s.agent.fetch(ctx, filepath.Join(s.dir, "code"), s.in.GetFiles(), 0o444)
}

// fetch writes files into a folder.
func (a *Agent) fetch(ctx context.Context, dir string, files []*wire.File, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, f := range files {
		b, err := a.download(ctx, f.GetUrl(), f.GetSha256(), f.GetSize())
		if err != nil {
			return fmt.Errorf("fetching %s: %w", f.GetPath(), err)
		}
		if err := root.MkdirAll(filepath.Dir(f.GetPath()), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(f.GetPath(), b, mode); err != nil {
			return err
		}
	}
	return nil
}

// download gets bytes by a presigned URL, and none but those of the hash.
func (a *Agent) download(ctx context.Context, url, sha256 string, size int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, warpket.Errorf(warpket.Unavailable, "the object store does not answer this node")
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, warpket.Errorf(warpket.Unavailable, "the object store answers this node with %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, size+1))
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "the object store broke off")
	}
	if warpket.SHA256(b) != sha256 {
		return nil, warpket.Errorf(warpket.Unavailable, "the object store gave other bytes than those of hash %s", sha256)
	}
	return b, nil
}

// revive starts a worker if there is none that serves a target: it has ended
// between two calls, or served another, which libraries decide for when they are
// loaded. Whoever calls it has the turn.
func (s *slot) revive(ctx context.Context, target warpket.Target) error {
	other := s.target != "" && s.target != target
	s.target = target
	if s.worker != nil && s.worker.Alive() && !other {
		return nil
	}
	if s.worker != nil {
		_ = s.worker.Close()
	}
	return s.load(ctx)
}

// load starts the worker.
func (s *slot) load(ctx context.Context) error {
	if s.simulated {
		s.worker = pretence{s.in.GetDevices()}
		return nil
	}
	var proxy *egress.Proxy
	if s.in.GetNetwork() == string(warpket.Egress) {
		var err error
		if proxy, err = egress.New(s.agent.config.Egress); err != nil {
			return err
		}
	}
	if s.image != nil {
		config := worker.ProgramConfig{
			Root: s.image.Root, Argv: s.image.Argv(s.in.GetImage().GetCommand()), ImageEnv: s.image.Env, Dir: s.image.WorkingDir, Entry: s.in.GetEntry(),
			Resources: warpket.Resources{CPU: int(s.in.GetCpu()), Memory: s.in.GetMemory()}, Env: s.in.GetEnvironment(), Egress: proxy,
		}
		if len(s.in.GetFiles()) > 0 {
			config.Code = filepath.Join(s.dir, "code")
		}
		p, err := s.agent.pool.Program(config)
		if err != nil {
			return err
		}
		s.worker = p
		return nil
	}
	gpus := s.access()
	if s.in.GetRuntime().GetCompiler() != "" {
		s.worker = s.agent.pool.CUDA(worker.CUDAConfig{
			Runtime: s.env, Code: filepath.Join(s.dir, "code"), Entry: s.in.GetEntry(), Architectures: s.in.GetArchitectures(), Scratch: filepath.Join(s.dir, "scratch"),
			Binary: s.binary, Devices: gpus.Devices, DeviceFiles: gpus.Files, DeviceEnv: gpus.Env,
			Resources: warpket.Resources{CPU: int(s.in.GetCpu()), Memory: s.in.GetMemory()}, Env: s.in.GetEnvironment(), Egress: proxy,
		})
		return nil
	}
	w, err := s.agent.pool.Start(ctx, worker.Config{
		Devices: gpus.Devices, DeviceFiles: gpus.Files, DeviceEnv: gpus.Env,
		Runtime: s.env, Project: warpket.ID(s.in.GetProject()),
		// Packages that nobody has vetted run in no process that has rights, and
		// what uses a GPU is never forked.
		Alone: s.in.GetRuntime().GetRequirements() != "" || len(s.in.GetDevices()) > 0,
		Code:  filepath.Join(s.dir, "code"), Scratch: filepath.Join(s.dir, "scratch"), Entry: s.in.GetEntry(),
		SDK: s.in.GetSdk(), SDKVersion: s.in.GetSdkVersion(), Env: s.in.GetEnvironment(), Egress: proxy,
		Resources: warpket.Resources{CPU: int(s.in.GetCpu()), Memory: s.in.GetMemory()},
	})
	if err != nil {
		return err
	}
	s.worker = w
	return nil
}

// enter admits a call to the slot, or says why not: then nothing has started.
func (s *slot) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.ready {
		return warpket.Errorf(warpket.NotFound, "slot %s serves no longer", s.id)
	}
	if s.calls > waiting {
		return warpket.Errorf(warpket.Conflict, "slot %s is busy", s.id)
	}
	s.calls++
	if s.idle != nil {
		s.idle.Stop()
	}
	return nil
}

// leave ends what enter began.
func (s *slot) leave() {
	s.mu.Lock()
	s.calls--
	if s.closed && s.calls == 0 && s.quiet != nil {
		close(s.quiet)
		s.quiet = nil
	}
	s.mu.Unlock()
	s.rest()
}

// rest begins to count the time after which an idle slot on demand goes.
func (s *slot) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in.GetIdle() == 0 || s.calls > 0 || s.closed {
		return
	}
	if s.idle == nil {
		s.idle = time.AfterFunc(time.Duration(s.in.GetIdle()), func() {
			if s.agent.release(s.id, s.generation, true) == nil {
				s.agent.client.SlotGone(s.id, s.generation)
			}
		})
		return
	}
	s.idle.Reset(time.Duration(s.in.GetIdle()))
}

// release ends a slot when what runs in it has ended; with ifIdle only when
// nothing does.
func (a *Agent) release(id warpket.ID, generation int64, ifIdle bool) error {
	a.mu.Lock()
	s := a.slots[id]
	a.mu.Unlock()
	if s == nil || s.generation != generation {
		return nil
	}
	s.mu.Lock()
	if ifIdle && s.calls > 0 {
		s.mu.Unlock()
		return warpket.Errorf(warpket.Conflict, "slot %s is busy", id)
	}
	s.closed = true // admits no more
	var quiet chan struct{}
	if s.calls > 0 {
		if s.quiet == nil {
			s.quiet = make(chan struct{})
		}
		quiet = s.quiet
	}
	s.mu.Unlock()
	if quiet != nil {
		<-quiet
	}
	if a.take(id, generation) != nil {
		s.end()
	}
	return nil
}

// end kills what runs in the slot and frees all that it held. What is still
// being prepared is freed by whoever prepares it.
func (s *slot) end() {
	s.mu.Lock()
	s.closed = true
	ready := s.ready
	s.mu.Unlock()
	s.kill()
	if ready {
		<-s.turn
		s.clear()
	}
}

func (s *slot) clear() {
	if s.worker != nil {
		if err := s.worker.Close(); err != nil {
			s.agent.config.Log.Error("worker not ended", "slot", s.id, "error", err)
		}
	}
	s.returnDevices()
	if s.image != nil {
		s.image.Release()
	}
	s.env.Release()
	if err := os.RemoveAll(s.dir); err != nil {
		s.agent.config.Log.Error("folder of a slot not removed", "slot", s.id, "error", err)
	}
}

// renew replaces a worker that is dead or may serve only once, and then gives
// the turn back.
func (s *slot) renew() {
	defer func() { s.turn <- struct{}{} }()
	if s.worker.Alive() && s.in.GetReuse() != string(warpket.ReuseNone) || s.ctx.Err() != nil {
		return
	}
	if err := s.worker.Close(); err != nil {
		s.agent.config.Log.Error("worker not ended", "slot", s.id, "error", err)
	}
	if err := s.load(s.ctx); err != nil && s.ctx.Err() == nil {
		s.agent.config.Log.Error("worker not replaced; tried again at the next call", "slot", s.id, "error", err)
	}
}
