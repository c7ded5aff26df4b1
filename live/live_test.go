package live

import (
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestAWatchMissesNothingThatComesAfterIt(t *testing.T) {
	t.Parallel()
	h := New()
	w := h.Watch("a")
	defer w.Close()
	for range 3 {
		h.Changed("a")
	}
	<-w.C
	select {
	case <-w.C:
		t.Error("three changes that nobody received are more than one")
	default:
	}
	h.Changed("b")
	select {
	case <-w.C:
		t.Error("news about b reached who waits for a")
	default:
	}
}

func TestAFinalExecutionIsHandedToAllWhoWait(t *testing.T) {
	t.Parallel()
	h := New()
	begun := time.Now()
	h.Begin("a", begun)
	one, two := h.Watch("a"), h.Watch("a")
	h.Finished(warpket.Execution{ID: "a", Status: warpket.Succeeded})
	for _, w := range []*Watch{one, two} {
		<-w.C
		if e := w.Final(); e == nil || e.Status != warpket.Succeeded {
			t.Errorf("got %+v", e)
		}
		w.Close()
	}
	if len(h.topics) != 0 {
		t.Errorf("%d topics are left", len(h.topics))
	}
}

func TestBegunIsTheRequestsTimeWhereItIsKnown(t *testing.T) {
	t.Parallel()
	h := New()
	begun, created := time.Now(), time.Now().Add(-time.Hour)
	h.Begin("a", begun)
	if got := h.Begun(warpket.Execution{ID: "a", CreatedDate: created}); !got.Equal(begun) {
		t.Errorf("got %s", got)
	}
	if got := h.Begun(warpket.Execution{ID: "b", CreatedDate: created}); !got.Equal(created) {
		t.Errorf("got %s", got)
	}
}

func TestALogThatIsSentAgainHasEachByteOnce(t *testing.T) {
	t.Parallel()
	h := New()
	l := h.Log("a")
	first := func(offset int64) Place { return Place{1, offset} }
	l.Write(first(0), []byte("hel"))
	l.Write(first(0), []byte("hello")) // a node that has reconnected
	l.Write(first(9), []byte("lost"))  // after a gap: its node will send the gap
	l.Write(first(5), []byte(" you"))
	if at, data, ended, _ := l.Read(Place{}); string(data) != "hello you" || ended || at != first(0) {
		t.Errorf("read %q from %v, ended %v", data, at, ended)
	}
	at, data, _, more := l.Read(first(6))
	if string(data) != "you" || at != first(6) {
		t.Errorf("the rest is %q from %v", data, at)
	}
	l.end()
	<-more
	if _, data, ended, _ := l.Read(first(9)); !ended || len(data) != 0 {
		t.Errorf("at its end: %q, ended %v", data, ended)
	}
}

func TestALaterAttemptBeginsItsLogAnew(t *testing.T) {
	t.Parallel()
	l := New().Log("a")
	l.Write(Place{1, 0}, []byte("first attempt"))
	l.Write(Place{2, 0}, []byte("second"))
	l.Write(Place{1, 13}, []byte("late news of the first"))
	if at, data, _, _ := l.Read(Place{1, 5}); string(data) != "second" || at != (Place{2, 0}) {
		t.Errorf("after a part of the first comes %q from %v", data, at)
	}
	if at, data, _, _ := l.Read(Place{3, 7}); len(data) != 0 || at != (Place{3, 7}) {
		t.Errorf("a reader who has seen the third was given %q from %v", data, at)
	}
}

func TestWhatIsNotFinalIsNoEnd(t *testing.T) {
	t.Parallel()
	h := New()
	w := h.Watch("a")
	defer w.Close()
	h.Finished(warpket.Execution{ID: "a", Status: warpket.Running})
	if e := w.Final(); e != nil {
		t.Errorf("it ended as %s", e.Status)
	}
}

func TestALateLogOfAnEndedExecutionIsDropped(t *testing.T) {
	t.Parallel()
	h := New()
	w := h.Watch("a")
	h.Append("a", Place{1, 0}, []byte("x"))
	h.Finished(warpket.Execution{ID: "a", Status: warpket.Succeeded})
	w.Close()
	h.Append("a", Place{1, 1}, []byte("y"))
	if len(h.topics) != 0 {
		t.Errorf("%d topics are left", len(h.topics))
	}
}
