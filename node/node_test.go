package node

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/worker"
)

func TestALogIsCutAtItsBoundWithAMarkAndGoesOnCounting(t *testing.T) {
	t.Parallel()
	l := newLogBuffer()
	line := strings.Repeat("x", 1<<16)
	for range 32 {
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	kept := string(l.kept())
	if len(kept) > warpket.MaxLog+200 || !strings.Contains(kept[warpket.MaxLog:], "log cut here") || strings.Count(kept, "log cut") != 1 {
		t.Errorf("kept %d bytes that end %q", len(kept), kept[len(kept)-80:])
	}
	if l.size() != 32<<16 {
		t.Errorf("counted %d", l.size())
	}
}

func TestALogIsFollowedFromItsBeginningInOrder(t *testing.T) {
	t.Parallel()
	l := newLogBuffer()
	_, _ = l.Write([]byte("one "))
	got := make(chan string, 100)
	stop := l.follow(func(offset int64, data []byte) bool {
		got <- string(data)
		return true
	})
	defer stop()
	all := <-got
	for _, part := range []string{"two ", "three"} {
		_, _ = l.Write([]byte(part))
		all += <-got
	}
	if all != "one two three" {
		t.Errorf("followed %q", all)
	}
}

func TestAProgramThatPrintsWithoutEndSendsFewParts(t *testing.T) {
	t.Parallel()
	l := newLogBuffer()
	first, sent := make(chan struct{}), make(chan int, 10_000)
	stop := l.follow(func(offset int64, data []byte) bool {
		if offset == 0 {
			close(first)
		}
		sent <- len(data)
		return true
	})
	defer stop()
	_, _ = l.Write([]byte("x"))
	<-first
	for range 5000 { // while it pauses
		_, _ = l.Write([]byte("x"))
	}
	parts := 0
	for all := 0; all < 5001; parts++ {
		all += <-sent
	}
	if parts > 1000 {
		t.Errorf("5001 prints went in %d parts", parts)
	}
}

func TestASlotAdmitsOneCallAndLetsOneWait(t *testing.T) {
	t.Parallel()
	s := &slot{in: &wire.Prepare{}, ready: true}
	for n := range waiting + 1 {
		if err := s.enter(); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if err := s.enter(); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("one too many: %v", err)
	}
	s.leave()
	if err := s.enter(); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	s.closed = true
	if err := s.enter(); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("a closed slot: %v", err)
	}
}

// slowToEnd is a worker that takes until a channel is closed to end.
type slowToEnd struct {
	pretence
	until chan struct{}
}

func (s slowToEnd) Close() error {
	<-s.until
	return nil
}

// executed is an execution that has run on an agent's one slot, with a worker.
func executed(t *testing.T, reuse warpket.Reuse, w runner) (*Agent, *slot, *execution) {
	t.Helper()
	a := New(Config{})
	s := a.newSlot(t.Context(), "s", &wire.Prepare{Generation: 3, Reuse: string(reuse)})
	s.ready, s.simulated, s.worker = true, true, w
	s.turn <- struct{}{}
	a.slots["s"] = s
	id, in := attempt{"e", 1}, &wire.Run{Execution: "e", Attempt: 1, Slot: "s", Generation: 3}
	e, _, err := a.admit(id, in)
	if err != nil {
		t.Fatal(err)
	}
	e.run(s, id, in, nil, time.Now())
	<-e.done
	return a, s, e
}

// What a server hears of the end of has left its slot: another may have the room.
func TestASlotIsIdleOnceItsOutcomeIsTold(t *testing.T) {
	t.Parallel()
	worker := slowToEnd{until: make(chan struct{})}
	a, s, _ := executed(t, warpket.ReuseNone, worker)
	released := make(chan error)
	go func() { released <- a.release("s", 3, true) }()
	select {
	case err := <-released:
		t.Fatalf("while its worker is replaced, it is answered: %v", err)
	case <-s.ctx.Done(): // the slot is taken, and ends when the worker has
	}
	close(worker.until)
	if err := <-released; err != nil {
		t.Error(err)
	}
}

// ended is a worker that ends before it is given its call.
type ended struct {
	pretence
	alive *bool
}

func (e ended) Alive() bool { return *e.alive }

func (e ended) Run(context.Context, worker.Call, io.Writer) warpket.Outcome {
	*e.alive = false
	return warpket.FailedWith(warpket.NotPrepared, "the worker had ended", "")
}

func TestAnExecutionThatItsWorkerHasNotBegunGetsAnother(t *testing.T) {
	t.Parallel()
	alive := true
	_, _, e := executed(t, warpket.ReuseProcess, ended{alive: &alive})
	if code := e.outcome.Failure.Code; code != warpket.SimulatedDevice {
		t.Errorf("it ended %s", code)
	}
}

func TestWithoutAWorkerAnExecutionSaysWhyAndACancelledOneThatItWas(t *testing.T) {
	t.Parallel()
	for range 20 { // whether its turn or its cancellation comes first
		a := New(Config{Log: slog.New(slog.DiscardHandler), Egress: egress.Config{Upstream: &url.URL{Scheme: "ftp"}}}) // loading fails
		s := a.newSlot(t.Context(), "s", &wire.Prepare{Generation: 3, Network: string(warpket.Egress)})
		s.ready = true
		s.turn <- struct{}{}
		a.slots["s"] = s
		for _, cancelled := range []bool{false, true} {
			id := attempt{"e", 1}
			if cancelled {
				id.number = 2
			}
			in := &wire.Run{Execution: "e", Attempt: int32(id.number), Slot: "s", Generation: 3}
			e, _, err := a.admit(id, in)
			if err != nil {
				t.Fatal(err)
			}
			if cancelled {
				if err := a.cancel(id); err != nil {
					t.Fatal(err)
				}
			}
			e.run(s, id, in, nil, time.Now())
			if o := e.outcome; cancelled != (o.Status == warpket.Cancelled) || !cancelled && !strings.Contains(o.Failure.Message, "http://host:port") {
				t.Errorf("cancelled: %v, it ended %s: %s", cancelled, o.Status, o.Failure.Message)
			}
		}
	}
}

func TestAnAttemptThatWasCancelledBeforeItCameIsNotStarted(t *testing.T) {
	t.Parallel()
	a := New(Config{})
	id := attempt{"e", 1}
	if err := a.cancel(id); err != nil {
		t.Fatal(err)
	}
	a.slots["s"] = &slot{id: "s", generation: 3, in: &wire.Prepare{}, ready: true, ctx: t.Context()}
	e, started, err := a.admit(id, &wire.Run{Execution: "e", Attempt: 1, Slot: "s", Generation: 3})
	if err != nil || started != nil {
		t.Fatalf("admitted: %v, %v", started, err)
	}
	<-e.done
	if e.outcome.Status != warpket.Cancelled {
		t.Errorf("ended %+v", e.outcome)
	}
}

func TestAnAttemptIsStartedOnceAndOnlyInASlotThatIsHeld(t *testing.T) {
	t.Parallel()
	a := New(Config{})
	a.slots["s"] = &slot{id: "s", generation: 3, in: &wire.Prepare{}, ready: true, ctx: t.Context()}
	run := func(generation int64) *wire.Run {
		return &wire.Run{Execution: "e", Attempt: 1, Slot: "s", Generation: generation}
	}
	id := attempt{"e", 1}
	if _, _, err := a.admit(id, run(2)); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("an order for an earlier holder: %v", err)
	}
	first, started, err := a.admit(id, run(3))
	if err != nil || started == nil {
		t.Fatalf("not started: %v", err)
	}
	second, again, err := a.admit(id, run(3))
	if err != nil || again != nil || second != first {
		t.Errorf("started twice: %v, %v", again, err)
	}
	a.forget(id)
	if _, _, err := a.admit(id, run(3)); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("after it was recorded: %v", err)
	}
}

func TestANodeSaysWhichOutcomesItKeeps(t *testing.T) {
	t.Parallel()
	a := New(Config{})
	over := make(chan struct{})
	close(over)
	a.executions[attempt{"over", 2}] = &execution{done: over}
	a.executions[attempt{"runs", 1}] = &execution{done: make(chan struct{})}
	if kept := a.Hello().GetKept(); len(kept) != 1 || kept[0].GetExecution() != "over" || kept[0].GetAttempt() != 2 {
		t.Errorf("it keeps %v", kept)
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	t.Parallel()
	r := newRecent(2)
	for _, id := range []warpket.ID{"a", "b", "c"} {
		r.add(attempt{id, 1})
	}
	if r.known[attempt{"a", 1}] || !r.known[attempt{"b", 1}] || !r.known[attempt{"c", 1}] {
		t.Errorf("it knows %v", r.known)
	}
}
