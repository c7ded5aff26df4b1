package main

import (
	"bufio"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
)

// worker is a Python process at the other end of a unix socket, which answers
// a line with a line.
type worker struct {
	conn  net.Conn
	lines *bufio.Reader
}

func newWorker(conn net.Conn) *worker { return &worker{conn, bufio.NewReader(conn)} }

func (w *worker) call(event []byte) ([]byte, error) {
	if _, err := w.conn.Write(event); err != nil {
		return nil, err
	}
	return w.lines.ReadBytes('\n')
}

// nuclio is an HTTP processor that hands each event to a free worker: a
// resident wrapper around the function, over a unix socket.
func nuclio(p program, processes int) (http.Handler, error) {
	free := make(chan *worker, processes)
	for n := range processes {
		socket := filepath.Join(p.dir, strconv.Itoa(n))
		cmd := p.command("wrapper", socket)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		conn, err := connect(socket)
		if err != nil {
			return nil, err
		}
		free <- newWorker(conn)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := compact(r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		worker := <-free
		result, err := worker.call(event)
		free <- worker
		answer(w, result, err)
	}), nil
}
