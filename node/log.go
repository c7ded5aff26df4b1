package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/warpket/warpket"
)

// logBuffer keeps the beginning of what an execution writes, up to a bound,
// and counts the rest. Writing never blocks.
type logBuffer struct {
	mu      sync.Mutex
	data    []byte
	written int64
	cut     bool
	ended   bool
	more    chan struct{} // closed when there is more, or the end
}

func newLogBuffer() *logBuffer { return &logBuffer{more: make(chan struct{})} }

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written += int64(len(p))
	if l.cut {
		return len(p), nil
	}
	room := warpket.MaxLog - len(l.data)
	if len(p) > room {
		l.cut = true
		l.data = append(l.data, p[:room]...)
		l.data = append(l.data, fmt.Sprintf("\n[log cut here: it is longer than %d bytes]\n", warpket.MaxLog)...)
	} else {
		l.data = append(l.data, p...)
	}
	l.signal()
	return len(p), nil
}

func (l *logBuffer) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.signal()
}

func (l *logBuffer) signal() {
	close(l.more)
	l.more = make(chan struct{})
}

func (l *logBuffer) kept() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data
}

func (l *logBuffer) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written
}

// logPause is between two parts of a log: what a program prints meanwhile goes as
// one, so that no program can keep the channel busy.
const logPause = 20 * time.Millisecond

// follow sends all that is there and all that comes, in order, until send
// reports that nobody takes it, or stop is called.
func (l *logBuffer) follow(send func(offset int64, data []byte) bool) (stop func()) {
	const chunk = 128 << 10
	stopped := make(chan struct{})
	go func() {
		offset := 0
		for {
			l.mu.Lock()
			data, ended, more := l.data[offset:], l.ended, l.more
			l.mu.Unlock()
			if len(data) > 0 {
				data = data[:min(len(data), chunk)]
				if !send(int64(offset), data) {
					return
				}
				offset += len(data)
				select {
				case <-time.After(logPause):
					continue
				case <-stopped:
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-more:
			case <-stopped:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}
