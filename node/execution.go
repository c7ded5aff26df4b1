package node

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/worker"
)

// execution is one attempt that this node has admitted. It is kept until a
// server has recorded its outcome.
type execution struct {
	log    *logBuffer
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when what follows is set

	outcome  warpket.Outcome
	admitted time.Duration

	mu    sync.Mutex
	reply *wire.Outcome // once large parts are stored
}

// run starts an attempt, unless it has been started before, and gives its
// outcome.
func (a *Agent) run(ctx context.Context, from *channel.Link, in *wire.Run, arrived time.Time) (*wire.Outcome, error) {
	id := attempt{warpket.ID(in.GetExecution()), in.GetAttempt()}
	if a.knows(id) {
		return a.attach(ctx, from, id, arrived)
	}
	input := in.GetInput()
	if in.GetInputUrl() != "" {
		b, err := a.download(ctx, in.GetInputUrl(), in.GetInputSha256(), warpket.MaxInput)
		if err != nil {
			return nil, channel.Refused{Cause: err}
		}
		input = b
	}
	e, s, err := a.admit(id, in)
	if err != nil {
		return nil, channel.Refused{Cause: err}
	}
	if s != nil { // else another call has admitted it meanwhile
		go e.run(s, id, in, input, arrived)
	}
	return a.attach(ctx, from, id, arrived)
}

// admit enters an attempt into its slot, once.
func (a *Agent) admit(id attempt, in *wire.Run) (*execution, *slot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.executions[id]; e != nil {
		return e, nil, nil
	}
	if a.recorded.known[id] {
		return nil, nil, warpket.Errorf(warpket.Conflict, "execution %s has been recorded", id.execution)
	}
	s := a.slots[warpket.ID(in.GetSlot())]
	if s == nil || s.generation != in.GetGeneration() {
		return nil, nil, warpket.Errorf(warpket.NotFound, "slot %s is not held here", in.GetSlot())
	}
	if a.alone() > warpket.AdmissionGrace {
		return nil, nil, warpket.Errorf(warpket.Unavailable, "this node hears no server")
	}
	e := &execution{log: newLogBuffer(), done: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancelCause(s.ctx)
	if a.unwanted.known[id] {
		e.outcome = warpket.FailedWith(warpket.CancelledCode, "it was cancelled before it started", "")
		e.log.end()
		close(e.done)
		a.executions[id] = e
		return e, nil, nil
	}
	if err := s.enter(); err != nil {
		return nil, nil, err
	}
	a.executions[id] = e
	return e, s, nil
}

// run takes its turn in the slot and has the worker run the handler.
func (e *execution) run(s *slot, id attempt, in *wire.Run, input []byte, arrived time.Time) {
	ctx := e.ctx
	defer e.cancel(nil)
	defer close(e.done)
	defer e.log.end()
	select {
	case <-s.turn:
	case <-ctx.Done():
		s.leave()
		e.outcome = e.stopped("it was cancelled before it started")
		return
	}
	e.admitted = time.Since(arrived)
	target := warpket.Target(in.GetTarget())
	for tries := 1; ; tries++ {
		if err := s.revive(ctx, target); err != nil {
			s.turn <- struct{}{}
			s.leave()
			e.outcome = e.unprepared(s, err)
			return
		}
		measured := s.measure()
		e.outcome = s.worker.Run(ctx, worker.Call{
			ExecutionID: id.execution, FunctionID: warpket.ID(s.in.GetFunctionId()), FunctionName: s.in.GetFunctionName(), Version: int(s.in.GetVersion()),
			Input: input, Shots: int(in.GetShots()), Seed: in.GetSeed(), Timeout: time.Duration(in.GetTimeout()), Target: target, Attempt: int(id.number),
		}, e.log)
		measured(&e.outcome.Usage)
		// A worker that ends between two calls has begun nothing of the second.
		if f := e.outcome.Failure; f == nil || f.Code != warpket.NotPrepared || s.worker.Alive() || tries == 3 {
			break
		}
	}
	if e.outcome.Status == warpket.Cancelled {
		e.outcome = e.stopped(e.outcome.Failure.Message)
	}
	s.leave() // before anyone hears of the end: then the slot is idle, and may be given back
	go s.renew()
}

// unprepared is the outcome of an attempt for which no worker could be started.
func (e *execution) unprepared(s *slot, cause error) warpket.Outcome {
	if e.ctx.Err() != nil {
		return e.stopped("it was cancelled before it started")
	}
	s.agent.config.Log.Error("worker not started", "slot", s.id, "error", cause)
	why := "no worker could be started for it"
	if known, ok := errors.AsType[*warpket.Error](cause); ok {
		why += ": " + known.Message
	}
	return warpket.FailedWith(warpket.NotPrepared, why, "")
}

var errAsked = errors.New("someone asked for its end")

// stopped is the outcome of an attempt that was ended from outside: cancelled
// if someone asked for that, else its slot was taken away.
func (e *execution) stopped(message string) warpket.Outcome {
	if errors.Is(context.Cause(e.ctx), errAsked) {
		return warpket.FailedWith(warpket.CancelledCode, message, "")
	}
	return warpket.FailedWith(warpket.LostCode, "its slot was taken back while it ran", "")
}

func (a *Agent) knows(id attempt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.executions[id] != nil
}

// attach gives the outcome of an attempt, and its log to the server that asks
// while it runs.
func (a *Agent) attach(ctx context.Context, from *channel.Link, id attempt, arrived time.Time) (*wire.Outcome, error) {
	a.mu.Lock()
	e := a.executions[id]
	a.mu.Unlock()
	if e == nil {
		return nil, warpket.Errorf(warpket.NotFound, "execution %s is not known here", id.execution)
	}
	stop := e.log.follow(func(offset int64, data []byte) bool { return from.Log(id.execution, id.number, offset, data) })
	defer stop()
	select {
	case <-e.done:
	case <-from.Broken(): // nobody is left to answer; the outcome stays
		return nil, channel.ErrBroken
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out, err := e.pack(ctx, a, from, id)
	if err != nil {
		return nil, err
	}
	out.Held = int64(time.Since(arrived))
	return out, nil
}

// pack makes the message of an outcome. What is large is stored first, once.
func (e *execution) pack(ctx context.Context, a *Agent, from *channel.Link, id attempt) (*wire.Outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reply == nil {
		o := &wire.Outcome{
			Status: string(e.outcome.Status), Failure: failureOf(e.outcome.Failure), LogSize: e.log.size(),
			Admitted: int64(e.admitted), Started: int64(e.outcome.Started), Ran: int64(e.outcome.Ran),
			Cpu: int64(e.outcome.Usage.CPU), PeakMemory: e.outcome.Usage.PeakMemory, GpuMemory: e.outcome.Usage.GPUMemory, GpuJoules: e.outcome.Usage.GPUJoules, GpuSeconds: e.outcome.Usage.GPUSeconds, Isolation: a.config.Inventory.Isolation.String(),
		}
		var err error
		if o.Result, err = a.payload(ctx, from, id, e.outcome.Result, warpket.MaxInline); err != nil {
			return nil, err
		}
		if o.Log, err = a.payload(ctx, from, id, e.log.kept(), warpket.MaxInlineLog); err != nil {
			return nil, err
		}
		e.reply = o
	}
	r := e.reply // shared by all who ask; what is in it is not changed any more
	return &wire.Outcome{
		Status: r.GetStatus(), Result: r.GetResult(), Failure: r.GetFailure(), Log: r.GetLog(), LogSize: r.GetLogSize(), Admitted: r.GetAdmitted(), Started: r.GetStarted(), Ran: r.GetRan(),
		Cpu: r.GetCpu(), PeakMemory: r.GetPeakMemory(), GpuMemory: r.GetGpuMemory(), GpuJoules: r.GetGpuJoules(), GpuSeconds: r.GetGpuSeconds(), Isolation: r.GetIsolation(),
	}, nil
}

// payload puts bytes into a message, or into the object store when they are
// more than inline.
func (a *Agent) payload(ctx context.Context, from *channel.Link, id attempt, b []byte, inline int) (*wire.Payload, error) {
	if len(b) <= inline {
		return &wire.Payload{Inline: b, Size: int64(len(b))}, nil
	}
	sum, size := warpket.SHA256(b), int64(len(b))
	upload, err := from.Upload(ctx, id.execution, sum, size)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, upload.GetUrl(), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for name, value := range upload.GetHeader() {
		req.Header.Set(name, value)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, warpket.Errorf(warpket.Unavailable, "the object store does not answer this node")
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, warpket.Errorf(warpket.Unavailable, "the object store answers this node with %s", resp.Status)
	}
	return &wire.Payload{Sha256: sum, Size: size}, nil
}

// cancel ends an attempt. One that has not come yet is remembered: the order to
// run it may be on its way.
func (a *Agent) cancel(id attempt) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.executions[id]; e != nil {
		e.cancel(errAsked)
	} else {
		a.unwanted.add(id)
	}
	return nil
}

// forget drops an outcome that a server has recorded. That it was here is
// remembered, so that a late message cannot start it again.
func (a *Agent) forget(id attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.executions[id]; e != nil {
		delete(a.executions, id)
		a.recorded.add(id)
	}
}
