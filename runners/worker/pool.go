package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
)

// Pool starts workers, most of them within milliseconds: it keeps processes
// that have the SDK imported. One that nobody has used yet is a spare. A
// project claims it, and from then on it is that project's zygote: it forks
// itself, ahead of need, into cells, and such a parked child becomes a worker
// when it is given its code. Nothing of one project descends from a process
// of another.
type Pool struct {
	id       string // in the names of its sandboxes
	launcher sandbox.Launcher
	nests    *sandbox.Namespaces // nil: each worker is a process of its own
	harness  string
	budget   int64        // bytes for zygotes and spares
	free     func() int64 // bytes of the machine's memory
	log      *slog.Logger

	ctx    context.Context //nolint:containedctx // of what is made ahead of need
	cancel context.CancelFunc
	making sync.WaitGroup

	mu      sync.Mutex
	named   int
	shelves map[string]*shelf // by folder of the environment
}

// shelf is what there is of one runtime.
type shelf struct {
	env      runtimes.Env
	alone    bool // its SDK starts threads: a fork would hang
	spare    *zygote
	projects map[warpket.ID]*zygote
}

// zygote is a process with an SDK imported that forks itself into cells.
type zygote struct {
	made chan struct{} // closed when nest or err is set
	nest *sandbox.Nest
	err  error

	// Guarded by the pool:
	parked  []*Worker
	parking bool
	closed  bool
	used    time.Time
	memory  int64 // bytes that it has, or may come to have while it is made
}

// ZygoteMemory is what a zygote is counted as until it has said what it has.
const ZygoteMemory = 110 << 20

const (
	floor         = 512 << 20 // bytes of the machine's memory that stay free
	zygoteTimeout = time.Minute
	maxParkedCode = 8 << 20 // bytes of code; larger code is mounted, not copied
)

// NewPool makes a pool of workers that launcher starts. Zygotes and spares are
// kept to about budget bytes.
func NewPool(launcher sandbox.Launcher, harness string, budget int64, log *slog.Logger) *Pool {
	id := string(warpket.NewID(time.Now()))
	p := &Pool{id: id[len(id)-12:], launcher: launcher, harness: harness, budget: budget, free: available, log: log, shelves: map[string]*shelf{}}
	p.nests, _ = launcher.(*sandbox.Namespaces)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends what is kept ahead of need. Workers have been closed before.
func (p *Pool) Close() {
	p.cancel()
	p.making.Wait()
	p.mu.Lock()
	var all []*zygote
	for _, s := range p.shelves {
		all = append(all, s.all()...)
	}
	p.mu.Unlock()
	for _, z := range all {
		p.end(z)
		if z.nest != nil {
			_ = z.nest.Close()
		}
	}
}

// Start starts a worker, as the function Start does, and sooner where it can.
func (p *Pool) Start(ctx context.Context, config Config) (*Worker, error) {
	config.Launcher, config.Harness = p.launcher, p.harness
	if p.parks(config) {
		w, err := p.take(ctx, config.Runtime, config.Project)
		if err == nil {
			if err = w.bind(ctx, config); err == nil {
				return w, nil
			}
			_ = w.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != errAlone { //nolint:errorlint // never wrapped
			p.log.Warn("no worker from those kept ready; starting one", "runtime", filepath.Base(config.Runtime.Dir), "error", err)
		}
	}
	p.mu.Lock()
	config.Name = p.name("worker")
	p.mu.Unlock()
	return Start(ctx, config)
}

// parks reports whether a parked child will do for a worker: one thread, code
// of a size that can be copied, and an SDK that came with a smoke run.
func (p *Pool) parks(config Config) bool {
	return p.nests != nil && !config.Alone && threadsOf(config.Resources) == 1 && sizeOf(config.Code) <= maxParkedCode
}

func sizeOf(folder string) (size int64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return err
	})
	return size
}

// Warm has a spare of a runtime made, if there is none and there is room.
func (p *Pool) Warm(env runtimes.Env) {
	if p.nests == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill(p.shelf(env))
}

var errAlone = errors.New("its SDK starts threads")

// Forget ends what is kept ready of the environment in a folder.
func (p *Pool) Forget(dir string) {
	p.mu.Lock()
	var all []*zygote
	if s := p.shelves[dir]; s != nil {
		all = s.all()
	}
	delete(p.shelves, dir)
	p.mu.Unlock()
	for _, z := range all {
		p.end(z)
	}
}

// Kept says how many workers are kept ready, ahead of need. It does not wait
// for what is being made.
func (p *Pool) Kept() []warpket.KeptReady {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []warpket.KeptReady
	for _, s := range p.shelves {
		runtime := s.env.Key.String()
		if s.spare != nil && len(s.spare.parked) > 0 {
			kept = append(kept, warpket.KeptReady{Runtime: runtime, Workers: len(s.spare.parked)})
		}
		for project, z := range s.projects {
			if len(z.parked) > 0 {
				kept = append(kept, warpket.KeptReady{Runtime: runtime, Project: project, Workers: len(z.parked)})
			}
		}
	}
	return kept
}

// take gives a parked child of the project's zygote, which there is afterwards.
func (p *Pool) take(ctx context.Context, env runtimes.Env, project warpket.ID) (*Worker, error) {
	p.mu.Lock()
	s := p.shelf(env)
	if s.alone {
		p.mu.Unlock()
		return nil, errAlone
	}
	z := s.projects[project]
	if z == nil {
		if z = s.spare; z == nil {
			z = p.newZygote(s, true) //nolint:contextcheck // it outlives the call
		}
		s.spare, s.projects[project] = nil, z
	}
	z.used = time.Now()
	p.mu.Unlock()

	select {
	case <-z.made:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w, err := p.pop(ctx, z)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && ctx.Err() == nil && s.projects[project] == z {
		delete(s.projects, project)
		p.making.Go(func() { p.end(z) })
	}
	if s.alone {
		return nil, errAlone
	}
	if err == nil {
		p.park(s, z)
	}
	p.refill(s) //nolint:contextcheck // what is kept ready outlives the call
	return w, err
}

// pop takes a parked child, or has one made.
func (p *Pool) pop(ctx context.Context, z *zygote) (*Worker, error) {
	if z.err != nil {
		return nil, z.err
	}
	p.mu.Lock()
	for len(z.parked) > 0 {
		w := z.parked[0]
		z.parked = z.parked[1:]
		if w.Alive() {
			p.mu.Unlock()
			return w, nil
		}
		go func() { _ = w.Close() }()
	}
	name := p.name("worker")
	p.mu.Unlock()
	return p.makeParked(ctx, z, name)
}

func (p *Pool) shelf(env runtimes.Env) *shelf {
	s := p.shelves[env.Dir]
	if s == nil {
		s = &shelf{env: env, projects: map[warpket.ID]*zygote{}}
		p.shelves[env.Dir] = s
	}
	return s
}

func (p *Pool) name(kind string) string {
	p.named++
	return fmt.Sprintf("%s-%s-%d", kind, p.id, p.named)
}

// refill has a spare made, if there is none. The caller holds the lock.
func (p *Pool) refill(s *shelf) {
	if s.spare == nil && !s.alone && p.ctx.Err() == nil && p.free() > floor+ZygoteMemory {
		s.spare = p.newZygote(s, false)
	}
}

// newZygote begins to make one. If it is needed now, others make room for it;
// else it may find none. The caller holds the lock.
func (p *Pool) newZygote(s *shelf, now bool) *zygote {
	z := &zygote{made: make(chan struct{}), used: time.Now(), memory: ZygoteMemory}
	if !p.makeRoom(ZygoteMemory, now) {
		return nil
	}
	name := p.name("zygote")
	p.making.Go(func() {
		var memory int64
		z.nest, memory, z.err = p.makeNest(s, name)
		close(z.made)
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case z.err == nil:
			z.memory, z.used = memory, time.Now() // whoever waits for it uses it now
			p.makeRoom(0, s.spare != z)
			p.park(s, z)
		case s.spare == z:
			s.spare = nil
			p.log.Warn("nothing kept ready of a runtime", "runtime", filepath.Base(s.env.Dir), "error", z.err)
		}
	})
	return z
}

// makeRoom retires the zygotes that were used least recently, until as many bytes
// are left of the budget, or there is but the one that was made last. For what is
// not needed now, only spares go that nobody has asked for.
func (p *Pool) makeRoom(bytes int64, now bool) bool {
	for {
		count, total, oldest := 0, bytes, (*zygote)(nil)
		var remove func()
		for _, s := range p.shelves {
			if s.spare != nil {
				count, total = count+1, total+s.spare.memory
				if z := s.spare; oldest == nil || z.used.Before(oldest.used) {
					oldest, remove = z, func() { s.spare = nil }
				}
			}
			for project, z := range s.projects {
				count, total = count+1, total+z.memory
				if now && (oldest == nil || z.used.Before(oldest.used)) {
					oldest, remove = z, func() { delete(s.projects, project) }
				}
			}
		}
		if total <= p.budget || now && (count == 0 || count == 1 && bytes == 0) {
			return true
		}
		if oldest == nil {
			return false
		}
		remove()
		p.making.Go(func() { p.end(oldest) })
		if !now {
			return false // or two runtimes would take each other's place for ever
		}
	}
}

// makeNest starts an interpreter, and has it import the SDK.
func (p *Pool) makeNest(s *shelf, name string) (_ *sandbox.Nest, memory int64, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, zygoteTimeout)
	defer cancel()
	limits := limitsOf(warpket.Resources{Memory: 2 << 30})
	limits.Processes = 0 // its cells have their own
	readOnly := append(s.env.ReadOnly(), p.harness)
	var below []string
	for _, path := range readOnly {
		if strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, "/dev/shm/") {
			below = append(below, path)
		}
	}
	nest, answer, err := p.nests.Nest(ctx, sandbox.Spec{
		Name: name, Argv: argv(s.env, p.harness, "nest"), Env: environment(s.env, warpket.Resources{}, "/tmp", nil), ReadOnly: readOnly, Limits: limits,
	}, struct {
		Modules  []string `json:"modules"`
		BelowTmp []string `json:"below_tmp"`
	}{s.env.Modules(), below})
	if err != nil {
		return nil, 0, err
	}
	var ready struct {
		Threads int
		Memory  int64
	}
	if err := json.Unmarshal(answer, &ready); err != nil || ready.Threads != 1 {
		p.mu.Lock()
		s.alone = true
		p.mu.Unlock()
		return nil, 0, errors.Join(nest.Close(), errAlone, err)
	}
	return nest, ready.Memory, nil
}

// park has a child parked, off the path, if the machine has the memory. The
// caller holds the lock.
func (p *Pool) park(s *shelf, z *zygote) {
	if z.parking || z.closed || len(z.parked) > 0 || p.ctx.Err() != nil || p.free() < floor {
		return
	}
	z.parking = true
	name := p.name("worker")
	p.making.Go(func() {
		w, err := p.makeParked(p.ctx, z, name)
		p.mu.Lock()
		defer p.mu.Unlock()
		z.parking = false
		switch {
		case err == nil && z.closed:
			p.making.Go(func() { _ = w.Close() })
		case err == nil:
			z.parked = append(z.parked, w)
		case p.ctx.Err() == nil && !z.closed:
			p.log.Warn("no child parked", "runtime", filepath.Base(s.env.Dir), "error", err)
		}
	})
}

// makeParked has the zygote fork itself into a cell.
func (p *Pool) makeParked(ctx context.Context, z *zygote, name string) (*Worker, error) {
	w := &Worker{folder: sandbox.CodeFolder}
	err := w.open(nil, func(pipes *pipes) (sandbox.Sandbox, error) {
		limits := limitsOf(warpket.DefaultResources)
		return z.nest.Cell(ctx, name, limits, [3]*os.File{pipes.theirControl, pipes.theirAnswers, pipes.theirOutput})
	})
	if err != nil {
		return nil, err
	}
	kind, _, _, err := w.exchange(ctx, zygoteTimeout, func() error { return nil })
	if err == nil && kind != parkedFrame {
		err = errFrame("the first answer is of the wrong kind")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("parking %s: %w", name, err), w.Close())
	}
	return w, nil
}

// bind makes a parked child the worker of a function.
func (w *Worker) bind(ctx context.Context, config Config) error {
	cell := w.box.(*sandbox.Cell) //nolint:forcetypeassert // parked children are in cells
	if err := cell.Limit(limitsOf(config.Resources)); err != nil {
		return err
	}
	if err := cell.WriteCode(config.Code); err != nil {
		return err
	}
	w.output.redirect(config.LoadLog)
	return w.load(ctx, config)
}

func (s *shelf) all() []*zygote {
	var all []*zygote
	if s.spare != nil {
		all = append(all, s.spare)
	}
	for _, z := range s.projects {
		all = append(all, z)
	}
	return all
}

// end ends a zygote and its parked children. Workers that came from it go on.
func (p *Pool) end(z *zygote) {
	<-z.made
	p.mu.Lock()
	parked := z.parked
	z.parked, z.closed = nil, true
	p.mu.Unlock()
	for _, w := range parked {
		_ = w.Close()
	}
	if z.nest != nil {
		z.nest.Retire()
	}
}

// available is the machine's memory that can still be had, in bytes.
func available() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return floor
	}
	for line := range strings.Lines(string(b)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	return floor
}
