package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// output is the pipe that a worker's stdout and stderr share. It is always
// being read, so that a worker never blocks on printing, and what comes goes
// to the writer of the moment, or nowhere.
type output struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{} // closed when follow has ended

	mu     sync.Mutex // held from reading bytes until they are written
	writer io.Writer
	buffer [64 << 10]byte
}

func newOutput(file *os.File, writer io.Writer) (*output, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reading a worker's output: %w", err)
	}
	return &output{file: file, raw: raw, done: make(chan struct{}), writer: writer}, nil
}

// follow passes on output until the pipe ends or is closed.
func (o *output) follow() {
	defer close(o.done)
	_ = o.raw.Read(func(fd uintptr) bool {
		for {
			o.mu.Lock()
			n, err := o.pass(fd, len(o.buffer))
			o.mu.Unlock()
			if errors.Is(err, unix.EAGAIN) {
				return false // wait for more
			}
			if n == 0 {
				return true
			}
		}
	})
}

// redirect passes on what is in the pipe now and sends what comes later to
// another writer. A worker that goes on printing cannot hold it up: it takes
// only what was there when it looked.
func (o *output) redirect(to io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.raw.Control(func(fd uintptr) {
		left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		for err == nil && left > 0 {
			var n int
			n, err = o.pass(fd, min(left, len(o.buffer)))
			if n == 0 {
				return
			}
			left -= n
		}
	})
	o.writer = to
}

// pass reads once and writes what it got. The caller holds the lock.
func (o *output) pass(fd uintptr, limit int) (int, error) {
	for {
		n, err := unix.Read(int(fd), o.buffer[:limit])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return 0, err
		}
		if o.writer != nil {
			_, _ = o.writer.Write(o.buffer[:n]) // a log that cannot be kept stops nothing
		}
		return n, nil
	}
}

func (o *output) close() {
	_ = o.file.Close()
	<-o.done
}
