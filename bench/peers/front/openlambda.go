package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// zygote is a Python process that has the packages imported, and forks itself
// for each instance of the function.
type zygote struct {
	dir string

	mu    sync.Mutex
	in    io.Writer
	lines *bufio.Reader
	made  int
}

// instance is a fork of the zygote that has the function. It is stopped while
// it has nothing to do.
type instance struct {
	*worker
	pid int
}

// openLambda keeps forks of a zygote, each of which is paused after a request
// unless another waits, and resumed before the next.
func openLambda(p program, processes int) (http.Handler, error) {
	cmd := p.command("zygote")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	z := &zygote{dir: p.dir, in: in, lines: bufio.NewReader(out)}
	if _, err := z.lines.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("the zygote ended: %w", err)
	}
	free := make(chan *instance, processes)
	var waiting atomic.Int64
	for range processes {
		i, err := z.fork()
		if err != nil {
			return nil, err
		}
		i.signal(syscall.SIGSTOP)
		free <- i
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		event, err := compact(r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		waiting.Add(1)
		i := <-free
		waiting.Add(-1)
		i.signal(syscall.SIGCONT)
		result, err := i.call(event)
		if waiting.Load() == 0 {
			i.signal(syscall.SIGSTOP)
		}
		free <- i
		answer(w, result, err)
	})
	mux.HandleFunc("/cold", func(w http.ResponseWriter, r *http.Request) {
		event, err := compact(r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		i, err := z.fork()
		if err != nil {
			answer(w, nil, err)
			return
		}
		result, err := i.call(event)
		i.signal(syscall.SIGKILL)
		_ = i.conn.Close()
		answer(w, result, err)
	})
	return mux, nil
}

// fork makes an instance.
func (z *zygote) fork() (*instance, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.made++
	socket := filepath.Join(z.dir, fmt.Sprintf("instance-%d", z.made))
	if _, err := fmt.Fprintln(z.in, socket); err != nil {
		return nil, err
	}
	i := &instance{}
	if _, err := fmt.Fscanln(z.lines, &i.pid); err != nil {
		return nil, err
	}
	conn, err := connect(socket)
	if err != nil {
		return nil, err
	}
	i.worker = newWorker(conn)
	return i, nil
}

func (i *instance) signal(s syscall.Signal) { _ = syscall.Kill(i.pid, s) }
