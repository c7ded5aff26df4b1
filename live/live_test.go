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
	l.Write(0, []byte("hel"))
	l.Write(0, []byte("hello")) // a node that has reconnected
	l.Write(9, []byte("lost"))  // after a gap: its node will send the gap
	l.Write(5, []byte(" you"))
	if data, ended, _ := l.Read(0); string(data) != "hello you" || ended {
		t.Errorf("read %q, ended %v", data, ended)
	}
	data, _, more := l.Read(9)
	if len(data) != 0 {
		t.Errorf("read %q past the end", data)
	}
	h.Finished(warpket.Execution{ID: "a"})
	<-more
	if _, ended, _ := l.Read(9); !ended {
		t.Error("the log does not end with its execution")
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
	h.Append("a", 0, []byte("x"))
	h.Finished(warpket.Execution{ID: "a", Status: warpket.Succeeded})
	w.Close()
	h.Append("a", 1, []byte("y"))
	if len(h.topics) != 0 {
		t.Errorf("%d topics are left", len(h.topics))
	}
}
