package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

// timings tell the two phases of a run, of which the worker has told the
// second. That is taken if it can be true.
func timings(total, ran time.Duration) (started, took time.Duration) {
	if ran <= 0 || ran > total {
		ran = total
	}
	return total - ran, ran
}

// end kills a worker whose exchange failed, and says what the failure was.
func (w *Worker) end(ctx context.Context, err error, did string, timeout time.Duration) *warpket.Failure {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = w.box.Close()
		if ctx.Err() != nil {
			return &warpket.Failure{Code: warpket.CancelledCode, Message: "cancelled while it ran"}
		}
		return tooLong(did, timeout)
	}
	if _, bad := errors.AsType[errFrame](err); bad {
		_ = w.box.Close()
		return &warpket.Failure{Code: warpket.Crashed, Message: "the code wrote to the worker's control stream: " + err.Error()}
	}
	// The stream ended, and so does the process, unless the code only closed it.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	exit, waitErr := w.box.Wait(grace)
	switch {
	case waitErr != nil:
		return &warpket.Failure{Code: warpket.Exited, Message: "the code closed the worker's control stream"}
	case exit.Signal != 0:
		f := crashed(exit)
		w.explain(f)
		return f
	}
	return &warpket.Failure{Code: warpket.Exited, Message: fmt.Sprintf("the code ended its process with %s", exit)}
}

func tooLong(did string, timeout time.Duration) *warpket.Failure {
	message := fmt.Sprintf("%s longer than its timeout of %s s", did, strconv.FormatFloat(timeout.Seconds(), 'g', -1, 64))
	return &warpket.Failure{Code: warpket.TimedOutCode, Message: message}
}

func crashed(exit sandbox.Exit) *warpket.Failure {
	return &warpket.Failure{Code: warpket.Crashed, Message: fmt.Sprintf("the process was ended by %s", exit)}
}

// explain says of a failure which limit has brought it about, by what the
// sandbox has counted since the call began, or by what the code itself has met.
func (w *Worker) explain(f *warpket.Failure) {
	now := w.box.Refusals()
	explain(f, w.refusals, now, w.memory)
	w.refusals = now
}

func explain(f *warpket.Failure, before, now sandbox.Refusals, memory int64) {
	switch {
	case now.Memory > before.Memory || f.Code == warpket.OutOfMemory:
		f.Code = warpket.OutOfMemory
		f.Message = fmt.Sprintf("it needed more than its %d MiB of memory (resources.memory): %s", memory>>20, f.Message)
	case now.Processes > before.Processes || f.Code == warpket.TooManyProcesses:
		f.Code = warpket.TooManyProcesses
		f.Message = fmt.Sprintf("it needed more than %d processes and threads: %s", MaxProcesses, f.Message)
	case f.Code == warpket.DiskFull:
		f.Message = fmt.Sprintf("it wrote more than %d MiB of files: %s", MaxDisk>>20, f.Message)
	}
}

// spoilt reports whether a failure leaves a worker that would harm the next
// call: what has filled it up is still there.
func spoilt(code warpket.FailureCode) bool {
	return code == warpket.OutOfMemory || code == warpket.TooManyProcesses || code == warpket.DiskFull
}

// usage is what a call has used, as the sandbox has counted it, or else, where
// its machine does not count time or memory, as the worker says.
func (w *Worker) usage(before sandbox.Counters, head answer) warpket.Usage {
	after := w.box.Counters()
	used := warpket.Usage{CPU: after.CPU - before.CPU, PeakMemory: after.PeakMemory}
	if after.CPU == 0 {
		used.CPU = time.Duration(max(0, head.CPU))
	}
	if after.PeakMemory == 0 {
		used.PeakMemory = max(0, head.Peak)
	}
	return used
}

// judge makes an outcome of what the worker says, which user code may have
// said in its place.
func judge(head answer, body []byte) warpket.Outcome {
	if f := head.Failure; f != nil {
		return warpket.FailedWith(knownCode(f.Code), f.Message, f.Traceback)
	}
	if len(body) > warpket.MaxResult {
		return warpket.FailedWith(warpket.ResultTooLarge, fmt.Sprintf("the result has %d bytes; at most %d are allowed", len(body), warpket.MaxResult), "")
	}
	if !json.Valid(body) {
		return warpket.FailedWith(warpket.ResultNotEncodable, "the result is not JSON", "")
	}
	return warpket.Outcome{Status: warpket.Succeeded, Result: body}
}

// knownCode lets through the codes that a worker may report of itself.
func knownCode(code warpket.FailureCode) warpket.FailureCode {
	switch code {
	case warpket.OutOfMemory, warpket.TooManyProcesses, warpket.DiskFull, warpket.ImportFailed, warpket.NoEntry, warpket.BadArguments, warpket.ResultNotEncodable, warpket.ResultTooLarge, warpket.Exited:
		return code
	default: // the others are not for a worker to say
		return warpket.Raised
	}
}
