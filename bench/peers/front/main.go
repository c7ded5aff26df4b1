// Command front serves a function over HTTP in the published way of working
// of three platforms, as small as it can be: no sandbox, no record, no limits.
//
//	front nuclio     PYTHON FUNCTION PROCESSES
//	front watchdog   PYTHON FUNCTION PROCESSES
//	front openlambda PYTHON FUNCTION PROCESSES
//
// It says {"url"} when it serves. POST / calls the function with the body as
// its event; POST /cold does so in a process that is new, where the way of
// working has such. It ends with its standard input.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "front:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: front nuclio|watchdog|openlambda PYTHON FUNCTION PROCESSES")
	}
	processes, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "front-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ways := map[string]func(program, int) (http.Handler, error){"nuclio": nuclio, "watchdog": watchdog, "openlambda": openLambda}
	handler, err := ways[args[0]](program{args[1], args[2], dir}, processes)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there until the end
	if err != nil {
		return err
	}
	fmt.Printf("{\"url\":\"http://%s\"}\n", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil // with which all that it started ends
}

// program starts Python programs for a function.
type program struct {
	python, function, dir string
}

// command is a program of bench/peers. It ends with this one.
func (p program) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(p.python, append([]string{filepath.Join("bench", "peers", name+".py"), p.function}, args...)...) //nolint:noctx // it ends with this process
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// connect connects to a unix socket that is about to be there.
func connect(socket string) (net.Conn, error) {
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("unix", socket) //nolint:noctx // it has a deadline of its own
		if err == nil || time.Now().After(deadline) {
			return conn, err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// compact puts an event on one line, as the programs want it.
func compact(r *http.Request) ([]byte, error) {
	event, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, event); err != nil {
		return nil, err
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}

func answer(w http.ResponseWriter, result []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(result)
}
