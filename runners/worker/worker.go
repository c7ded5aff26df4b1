// Package worker runs functions: one process per worker, which has a handler
// imported and runs it for one execution after another.
//
// The process is the Python program in harness/. It is spoken to over two
// pipes (calls in on descriptor 3, answers out on 4, see frames.go); what it
// prints is the execution's log.
package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
)

// Config says what a worker is made of.
type Config struct {
	Name        string // of its sandbox
	Launcher    sandbox.Launcher
	Runtime     runtimes.Env
	Harness     string // folder that WriteHarness made
	Project     warpket.ID
	Alone       bool   // never forked from a process that other workers come from
	Code        string // folder of the function's files
	Scratch     string // folder in which the worker makes one of its own, for HOME and TMPDIR, if its sandbox has none
	Entry       string // "module.function"
	SDK         string
	SDKVersion  string
	Resources   warpket.Resources // its cores decide the number of threads
	LoadTimeout time.Duration     // one minute if zero
	Env         map[string]string // the function's variables
	Egress      *egress.Proxy     // its way to the network; nil for none
	Devices     []string          // paths of the files of its devices
	DeviceFiles []string          // paths of libraries that go with them
	DeviceEnv   []string          // NAME=value, which say which devices it has
	LoadLog     io.Writer         // what the code prints while it is imported; nil drops it
}

// Call is one execution for a worker.
type Call struct {
	ExecutionID  warpket.ID
	FunctionID   warpket.ID
	FunctionName string
	Version      int
	Input        []byte // JSON; none is an empty object
	Shots        int
	Seed         int64
	Timeout      time.Duration // one minute if zero
	Target       warpket.Target
	Attempt      int
}

// Worker is a process with a handler imported. It serves one call at a time.
type Worker struct {
	box     sandbox.Sandbox
	control *os.File      // calls in
	answers *os.File      // answers out
	reader  *bufio.Reader // of answers
	output  *output
	scratch string             // empty if the sandbox has its own /tmp
	network context.CancelFunc // ends what serves its network; nil until it is loaded
	folder  string             // of the code, as the worker sees it
	memory  int64              // bytes that it may use
	failure *warpket.Failure   // why it could not be loaded; set by Start only

	mu       sync.Mutex // held by the call that runs
	calls    int
	refusals sandbox.Refusals // before the call
}

// Start starts a worker and has it import its handler. Code that cannot be
// imported is not an error: the worker then answers every call with the
// reason. The worker outlives ctx.
func Start(ctx context.Context, config Config) (*Worker, error) {
	w, err := start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("starting worker %s: %w", config.Name, err)
	}
	if err := w.load(ctx, config); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("loading worker %s: %w", config.Name, err)
	}
	return w, nil
}

// LoadFailure says why the handler could not be imported. It is nil if it was.
func (w *Worker) LoadFailure() *warpket.Failure { return w.failure }

// Alive reports whether the worker can answer calls. One that is not is to be
// closed and replaced. One whose code could not be imported answers that: a
// new one would fare no better.
func (w *Worker) Alive() bool {
	if w.failure != nil {
		return true
	}
	select {
	case <-w.box.Done():
		return false
	default:
		return true
	}
}

// Run runs the handler once. What it prints is written to log while it runs,
// all of it before Run returns; log must not block, and bounds itself. When
// ctx ends first the worker is killed and the outcome is "cancelled".
func (w *Worker) Run(ctx context.Context, call Call, log io.Writer) warpket.Outcome {
	admitted := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.failure; f != nil {
		return warpket.FailedWith(f.Code, f.Message, f.Traceback)
	}
	if !w.Alive() {
		return warpket.FailedWith(warpket.NotPrepared, "the worker had ended before the execution began", "")
	}
	if ctx.Err() != nil {
		return warpket.FailedWith(warpket.CancelledCode, "cancelled before it ran", "")
	}
	w.output.redirect(nil) // what was printed between executions belongs to none
	w.output.redirect(log)
	defer w.output.redirect(nil)

	w.calls++
	timeout := orMinute(call.Timeout)
	w.box.ResetPeak()
	before := w.box.Counters()
	w.refusals = w.box.Refusals()
	kind, head, body, err := w.exchange(ctx, timeout, func() error {
		return writeFrame(w.control, runFrame, runHeader{
			Call:        w.calls,
			ExecutionID: call.ExecutionID,
			FunctionID:  call.FunctionID,
			Function:    call.FunctionName,
			Version:     call.Version,
			Shots:       call.Shots,
			Seed:        call.Seed,
			Target:      call.Target,
			Attempt:     call.Attempt,
			Timeout:     timeout.Seconds(),
		}, call.Input)
	})

	if err == nil && kind != resultFrame {
		err = errFrame("an answer is of the wrong kind")
	}
	var outcome warpket.Outcome
	if err != nil {
		failure := w.end(ctx, err, "ran", timeout)
		outcome = warpket.FailedWith(failure.Code, failure.Message, "")
	} else {
		outcome = judge(head, body)
		if outcome.Failure != nil {
			w.explain(outcome.Failure)
			if spoilt(outcome.Failure.Code) {
				defer func() { _ = w.box.Close() }()
			}
		}
	}
	outcome.Usage = w.usage(before, head)
	outcome.Started, outcome.Ran = timings(time.Since(admitted), time.Duration(head.Ran))
	return outcome
}

// Close ends the worker and what it started, and removes its scratch folder.
func (w *Worker) Close() error {
	err := w.box.Close()
	if w.network != nil {
		w.network()
	}
	_ = w.control.Close()
	_ = w.answers.Close()
	w.output.close()
	if w.scratch == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(w.scratch))
}

// load has the process import its handler. It remembers what the code does
// wrong, and fails only when ctx ends first.
func (w *Worker) load(ctx context.Context, config Config) error {
	timeout := orMinute(config.LoadTimeout)
	w.memory, w.refusals = config.Resources.Memory, w.box.Refusals()
	var err error
	if w.network, err = connect(w.box, config.Launcher, config.Egress); err != nil { //nolint:contextcheck // its network is there for as long as the worker
		return err
	}
	header := loadHeader{
		Entry: config.Entry, SDK: config.SDK, SDKVersion: config.SDKVersion, Folder: w.folder, Env: variables(config),
		Memory: config.Resources.Memory, MaxResult: warpket.MaxResult,
	}
	if i := config.Launcher.Isolation(); i.Kind != warpket.NoIsolation.Kind && slices.Contains(i.Unenforced, "memory") {
		header.DataLimit = config.Resources.Memory
	}
	kind, head, _, err := w.exchange(ctx, timeout, func() error {
		return writeFrame(w.control, loadFrame, header, nil)
	})
	if err == nil && kind != loadedFrame {
		err = errFrame("the first answer is of the wrong kind")
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		w.failure = w.end(ctx, err, "importing took", timeout)
	case head.Failure != nil:
		w.failure = judge(head, nil).Failure
		w.explain(w.failure)
		_ = w.box.Close() // it will never run: give its memory back
	}
	w.output.redirect(nil)
	return nil
}

// exchange sends a frame and waits for its answer, for as long as timeout and
// ctx allow.
func (w *Worker) exchange(ctx context.Context, timeout time.Duration, send func() error) (kind byte, head answer, body []byte, err error) {
	deadline := time.Now().Add(timeout)
	_ = w.control.SetWriteDeadline(deadline)
	_ = w.answers.SetReadDeadline(deadline)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		now := time.Now()
		_ = w.control.SetWriteDeadline(now)
		_ = w.answers.SetReadDeadline(now)
		close(interrupted)
	})
	defer func() {
		if !stop() {
			<-interrupted // or it would cut the next exchange short
		}
	}()
	if err := send(); err != nil {
		return 0, head, nil, err
	}
	kind, head, body, err = readFrame(w.reader)
	if err == nil && head.Call != w.calls {
		err = errFrame("an answer is for another call")
	}
	return kind, head, body, err
}

func orMinute(d time.Duration) time.Duration {
	if d == 0 {
		return time.Minute
	}
	return d
}
