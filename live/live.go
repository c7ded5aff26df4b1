// Package live tells those who wait in this server what has just happened to
// an execution, a deployment or the fleet, so that nobody has to ask again and
// again. It holds nothing that Postgres does not hold too, but for the log of
// an execution that is running.
package live

import (
	"sync"
	"time"

	"github.com/warpket/warpket"
)

// Capacity is the topic for whoever waits for room on the fleet.
const Capacity warpket.ID = "capacity"

// Hub passes news on, by the ID of what they are about.
type Hub struct {
	mu     sync.Mutex
	topics map[warpket.ID]*topic
}

type topic struct {
	watches map[*Watch]bool
	begun   time.Time
	log     *Log
}

// New makes a Hub.
func New() *Hub { return &Hub{topics: map[warpket.ID]*topic{}} }

// Watch is one waiter for news about one thing.
type Watch struct {
	// C receives after each change; changes that come while nobody receives
	// are one. Read the state again after each.
	C     <-chan struct{}
	c     chan struct{}
	hub   *Hub
	id    warpket.ID
	final *warpket.Execution
}

// Watch begins to wait for news about id. Subscribe first and read the state
// then: nothing is missed in between. Close it.
func (h *Hub) Watch(id warpket.ID) *Watch {
	c := make(chan struct{}, 1)
	w := &Watch{C: c, c: c, hub: h, id: id}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.topic(id).watches[w] = true
	return w
}

// Close ends the wait.
func (w *Watch) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if t := w.hub.topics[w.id]; t != nil {
		delete(t.watches, w)
		w.hub.drop(w.id)
	}
}

// Final is the final state of the execution when it became final in this
// server; else nil, and Postgres knows more.
func (w *Watch) Final() *warpket.Execution {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.final
}

// Changed wakes whoever waits for news about id.
func (h *Hub) Changed(id warpket.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[id]; t != nil {
		t.wake()
	}
}

// AllChanged wakes all who wait: news may have been missed.
func (h *Hub) AllChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		t.wake()
	}
}

// Begin notes when the request for an execution came in, so that its phases
// are measured by one monotonic clock.
func (h *Hub) Begin(id warpket.ID, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.topic(id).begun = at
}

// Begun is when the request came in; it is the wall clock's time when another
// server, or this one's predecessor, took it.
func (h *Hub) Begun(e warpket.Execution) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[e.ID]; t != nil && !t.begun.IsZero() {
		return t.begun
	}
	return e.CreatedDate
}

// Finished hands a final execution to whoever waits for it and forgets it.
// One that is not final is no news.
func (h *Hub) Finished(e warpket.Execution) {
	if !e.Status.Final() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[e.ID]
	if t == nil {
		return
	}
	for w := range t.watches {
		w.final = &e
	}
	t.wake()
	t.begun = time.Time{}
	if t.log != nil {
		t.log.end()
		t.log = nil
	}
	h.drop(e.ID)
}

// Forget drops what Begin noted: the request came to nothing.
func (h *Hub) Forget(id warpket.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[id]; t != nil {
		t.begun = time.Time{}
		h.drop(id)
	}
}

// Append adds to the log of an execution, if anybody here drives or watches it.
func (h *Hub) Append(id warpket.ID, at Place, data []byte) {
	h.mu.Lock()
	known := h.topics[id] != nil
	h.mu.Unlock()
	if known {
		h.Log(id).Write(at, data)
	}
}

// Log is the log of an execution that is running. It is there until Finished,
// or until nobody watches the execution: hold a Watch.
func (h *Hub) Log(id warpket.ID) *Log {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topic(id)
	if t.log == nil {
		t.log = &Log{more: make(chan struct{})}
	}
	return t.log
}

func (h *Hub) topic(id warpket.ID) *topic {
	t := h.topics[id]
	if t == nil {
		t = &topic{watches: map[*Watch]bool{}}
		h.topics[id] = t
	}
	return t
}

func (h *Hub) drop(id warpket.ID) {
	if t := h.topics[id]; t != nil && len(t.watches) == 0 && t.begun.IsZero() {
		delete(h.topics, id)
	}
}

func (t *topic) wake() {
	for w := range t.watches {
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}

// Place is a place in a log. Each attempt begins a log of its own.
type Place struct {
	Attempt int
	Offset  int64
}

// Log is a log that grows: that of the latest attempt.
type Log struct {
	mu      sync.Mutex
	attempt int
	data    []byte
	ended   bool
	more    chan struct{} // closed when there is more, or the end
}

// Write adds what an attempt wrote. What is there already is skipped, so a node
// that reconnects may send everything again; bytes after a gap are left out,
// for the node will send the gap.
func (l *Log) Write(at Place, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || at.Attempt < l.attempt {
		return
	}
	if at.Attempt > l.attempt {
		l.attempt, l.data = at.Attempt, nil
	}
	have := int64(len(l.data))
	if at.Offset > have || at.Offset+int64(len(data)) <= have {
		return
	}
	l.data = append(l.data, data[have-at.Offset:]...)
	l.signal()
}

// Read gives what comes after a place: where that is, for a later attempt may
// have begun; the bytes; whether that is all there will ever be; and a channel
// that is closed when there is more.
func (l *Log) Read(after Place) (at Place, data []byte, ended bool, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch have := int64(len(l.data)); {
	case after.Attempt < l.attempt:
		after = Place{Attempt: l.attempt}
	case after.Attempt > l.attempt || after.Offset > have: // not here yet
		return after, nil, l.ended, l.more
	}
	return after, l.data[after.Offset:len(l.data):len(l.data)], l.ended, l.more
}

func (l *Log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.signal()
}

func (l *Log) signal() {
	close(l.more)
	l.more = make(chan struct{})
}
