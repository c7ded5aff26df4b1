package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/sandbox"
)

// ProgramConfig says what a program of an image is started with.
type ProgramConfig struct {
	Root      string   // folder with the files of its image
	Argv      []string // the program, by its path or as a shell would find it, and its arguments
	ImageEnv  []string // the image's environment, as NAME=value
	Dir       string   // in which it starts
	Code      string   // folder with files that it finds at /code; empty for none
	Entry     string   // what of the files to call, in whatever way the image knows; may be empty
	Resources warpket.Resources
	Env       map[string]string // the function's variables
	Egress    *egress.Proxy     // its way to the network; nil for none

	// Of a program of the machine, without an image:
	ReadOnly []string // what it reads
	Writable []string // folders that it writes, at least one: the first is its HOME
	Devices  []string // paths of the files of its devices
}

// Program is the worker of a function that comes as an image, or whose files run
// in one. Each execution is a process of its own. It finds the input on its standard input; its result
// is the JSON that it writes to descriptor ResultFD or, if it writes nothing
// there, the last line of its standard output, if that is JSON. All that it
// prints is the log, that line too. It succeeds by exit code 0.
type Program struct {
	config   ProgramConfig
	launcher sandbox.Launcher
	name     func() string
	failure  *warpket.Failure

	mu sync.Mutex // held by the call that runs
}

// newProgram makes the worker of a program that is there.
func (p *Pool) newProgram(config ProgramConfig) *Program {
	return &Program{config: config, launcher: p.launcher, name: func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.name("program")
	}}
}

// ResultFD is the descriptor for results of programs. It is also in their
// variable WARPKET_RESULT_FD.
const ResultFD = 3

// maxResultLine is how long a result may be that is a line of the output.
const maxResultLine = 1 << 20

// Program makes the worker of an image. It starts nothing: an image that lacks
// its program answers every call so.
func (p *Pool) Program(config ProgramConfig) (*Program, error) {
	w := p.newProgram(config)
	if config.Code != "" && config.Dir == "/" { // as if the image had said nothing
		w.config.Dir = sandbox.CodeFolder
	}
	root, err := os.Open(config.Root)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of an image: %w", err)
	}
	defer func() { _ = root.Close() }()
	if len(config.Argv) == 0 {
		w.failure = &warpket.Failure{Code: warpket.NoEntry, Message: "the image says nothing of what to run (neither ENTRYPOINT nor CMD): publish a version with a command"}
		return w, nil
	}
	if mode := look(root, w.config.Dir); mode&unix.S_IFMT != unix.S_IFDIR && config.Dir != "/tmp" && (config.Code == "" || w.config.Dir != sandbox.CodeFolder) {
		w.failure = &warpket.Failure{Code: warpket.NoEntry, Message: fmt.Sprintf("the image has no folder %q, in which it wants to be started (WORKDIR)", config.Dir)}
		return w, nil
	}
	found := find(root, config.Argv[0], w.config.Dir, w.environment()["PATH"])
	if found == "" {
		w.failure = &warpket.Failure{Code: warpket.NoEntry, Message: fmt.Sprintf("the image has no program %q: it is neither the path of a file that can be executed nor in its PATH", config.Argv[0])}
		return w, nil
	}
	w.config.Argv = slices.Concat([]string{found}, config.Argv[1:])
	return w, nil
}

// find gives the path of a program in a root folder; empty if it is not there.
func find(root *os.File, name, dir, search string) string {
	var candidates []string
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(dir, name)
		}
		candidates = []string{name}
	} else {
		for folder := range strings.SplitSeq(search, ":") {
			if !path.IsAbs(folder) {
				folder = path.Join(dir, folder)
			}
			candidates = append(candidates, path.Join(folder, name))
		}
	}
	for _, c := range candidates {
		if mode := look(root, c); mode&unix.S_IFMT == unix.S_IFREG && mode&0o111 != 0 {
			return c
		}
	}
	return ""
}

// look gives the mode of what a path leads to for those who have the folder as
// their root; 0 for nothing. Links lead nowhere else.
func look(root *os.File, name string) uint32 {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil {
		return 0
	}
	return stat.Mode
}

// environment is what all executions find: what is the image's, what belongs to
// the sandbox, and what is the function's; the later wins.
func (p *Program) environment() map[string]string {
	all := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
	for _, list := range [][]string{threads(p.config.Resources), p.config.ImageEnv, {"HOME=/tmp", "TMPDIR=/tmp", "USER=function"}} {
		for _, variable := range list {
			if name, value, ok := strings.Cut(variable, "="); ok {
				all[name] = value
			}
		}
	}
	maps.Copy(all, p.config.Env)
	if p.config.Root == "" {
		all["HOME"], all["TMPDIR"] = p.config.Writable[0], p.config.Writable[0] // else they would be the machine's
	}
	if p.config.Code != "" {
		all["WARPKET_CODE"], all["WARPKET_ENTRY"] = sandbox.CodeFolder, p.config.Entry
	}
	if p.config.Egress != nil {
		addProxy(all)
	}
	return all
}

// LoadFailure says why the program cannot be started. It is nil if it can.
func (p *Program) LoadFailure() *warpket.Failure { return p.failure }

// Alive reports that the program can be started again.
func (p *Program) Alive() bool { return true }

// Close waits for what runs, whose context has ended before.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return nil
}

// Run starts the program and waits for its end. What it prints is written to
// log while it runs, all of it before Run returns; log must not block, and
// bounds itself. When ctx ends first the program is killed and the outcome is
// "cancelled".
func (p *Program) Run(ctx context.Context, call Call, log io.Writer) warpket.Outcome {
	admitted := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.failure; f != nil {
		return warpket.FailedWith(f.Code, f.Message, "")
	}
	timeout := orMinute(call.Timeout)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := p.start(limited, call, time.Now().Add(timeout), log)
	switch {
	case ctx.Err() != nil && err != nil:
		return warpket.FailedWith(warpket.CancelledCode, "cancelled before it ran", "")
	case limited.Err() != nil && err != nil:
		return warpket.FailedWith(warpket.TimedOutCode, tooLong("starting it took", timeout).Message, "")
	case err != nil:
		return warpket.FailedWith(warpket.NotPrepared, "the program could not be started: "+reason(err), "")
	}
	defer r.close()
	started := time.Now()
	exit, err := r.box.Wait(limited)
	ran := time.Since(started)
	r.drain()

	var outcome warpket.Outcome
	switch {
	case err == nil && exit.OK():
		outcome = r.result()
	case err == nil:
		outcome.Failure = r.failure(exit)
		explain(outcome.Failure, sandbox.Refusals{}, r.box.Refusals(), p.config.Resources.Memory)
	case ctx.Err() != nil:
		outcome.Failure = &warpket.Failure{Code: warpket.CancelledCode, Message: "cancelled while it ran"}
	default:
		outcome.Failure = tooLong("ran", timeout)
	}
	if f := outcome.Failure; f != nil {
		outcome = warpket.FailedWith(f.Code, f.Message, "")
	}
	outcome.Started, outcome.Ran = started.Sub(admitted), ran
	used := r.box.Counters()
	outcome.Usage = warpket.Usage{CPU: used.CPU, PeakMemory: used.PeakMemory}
	return outcome
}

// reason is the part of an error that people may read.
func reason(err error) string {
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		return e.Message
	}
	return "its node's log says why"
}

// run is one process of a program.
type run struct {
	box     sandbox.Sandbox
	network context.CancelFunc
	input   *os.File
	output  [2]*output  // stdout and stderr
	last    [2]lastLine // of each
	results *os.File

	fed     chan struct{} // closed when the input is written, or not wanted
	read    chan struct{} // closed when the two below are set
	written []byte        // to the descriptor for results, and no more than fits
	size    int64         // of all that was written there
}

func (p *Program) start(ctx context.Context, call Call, deadline time.Time, log io.Writer) (_ *run, err error) {
	var pipes [4]struct{ ours, theirs *os.File } // input, output, errors, result
	defer func() {
		for _, pipe := range pipes {
			closeAll(pipe.theirs)
			if err != nil {
				closeAll(pipe.ours)
			}
		}
	}()
	for i := range pipes {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("opening a pipe: %w", err)
		}
		pipes[i].ours, pipes[i].theirs = reader, writer
		if i == 0 {
			pipes[i].ours, pipes[i].theirs = writer, reader
		}
	}
	r := &run{input: pipes[0].ours, results: pipes[3].ours, fed: make(chan struct{}), read: make(chan struct{})}
	both := &lockedWriter{to: log}
	if r.output[0], err = newOutput(pipes[1].ours, io.MultiWriter(both, &r.last[0])); err != nil {
		return nil, err
	}
	if r.output[1], err = newOutput(pipes[2].ours, io.MultiWriter(both, &r.last[1])); err != nil {
		return nil, err
	}
	r.box, err = p.launcher.Start(ctx, sandbox.Spec{
		Name: p.name(), Root: p.config.Root, Code: p.config.Code, Argv: p.config.Argv, Env: p.variables(call, deadline), Dir: p.config.Dir,
		Stdin: pipes[0].theirs, Stdout: pipes[1].theirs, Stderr: pipes[2].theirs, Files: []*os.File{pipes[3].theirs},
		ReadOnly: p.config.ReadOnly, Writable: p.config.Writable, Devices: p.config.Devices, Limits: limitsOf(p.config.Resources), Listen: p.config.Egress != nil,
	})
	if err != nil {
		return nil, err
	}
	if r.network, err = connect(r.box, p.launcher, p.config.Egress); err != nil { //nolint:contextcheck // it ends with the process
		return nil, errors.Join(err, r.box.Close())
	}
	r.follow(call.Input)
	return r, nil
}

// variables are what one execution finds.
func (p *Program) variables(call Call, deadline time.Time) []string {
	all := p.environment()
	all["WARPKET_EXECUTION_ID"] = string(call.ExecutionID)
	all["WARPKET_ATTEMPT"] = strconv.Itoa(call.Attempt)
	all["WARPKET_SHOTS"] = strconv.Itoa(call.Shots)
	all["WARPKET_SEED"] = strconv.FormatInt(call.Seed, 10)
	all["WARPKET_DEADLINE"] = deadline.UTC().Format(time.RFC3339Nano)
	all["WARPKET_RESULT_FD"] = strconv.Itoa(ResultFD)
	list := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, name+"="+all[name])
	}
	return list
}

// follow passes on what the program gets and gives. All of it ends with the
// program, and the input when it is closed here.
func (r *run) follow(input []byte) {
	if len(input) == 0 {
		input = []byte("{}")
	}
	go func() {
		defer close(r.fed)
		_, _ = r.input.Write(input) // a program that does not read it all does not want it
		_ = r.input.Close()
	}()
	for _, o := range r.output {
		go o.follow()
	}
	go func() {
		defer close(r.read)
		r.written, _ = io.ReadAll(io.LimitReader(r.results, warpket.MaxResult+1))
		more, _ := io.Copy(io.Discard, r.results)
		r.size = int64(len(r.written)) + more
	}()
}

// drain waits until all that a program wrote before it ended has been read.
func (r *run) drain() {
	for _, o := range r.output {
		<-o.done
	}
	<-r.read
}

// result is the outcome of a program that has ended well.
func (r *run) result() warpket.Outcome {
	where, text, size, most := "to its descriptor for results", bytes.TrimSpace(r.written), r.size, int64(warpket.MaxResult)
	if len(text) == 0 && size <= most {
		where, most = "as the last line of its output, and larger ones go to the descriptor WARPKET_RESULT_FD", maxResultLine
		if text, size = r.last[0].text(); size <= most && !isJSON(text) {
			return warpket.Outcome{Status: warpket.Succeeded, Result: json.RawMessage("null")} // it printed for people
		}
	}
	if size > most {
		return warpket.FailedWith(warpket.ResultTooLarge, fmt.Sprintf("the result has %d bytes; at most %d are allowed %s", size, most, where), "")
	}
	if len(text) == 0 {
		return warpket.Outcome{Status: warpket.Succeeded, Result: json.RawMessage("null")}
	}
	if !isJSON(text) {
		return warpket.FailedWith(warpket.ResultNotEncodable, "what the program wrote to its descriptor for results is not JSON", "")
	}
	return warpket.Outcome{Status: warpket.Succeeded, Result: text}
}

// failure says why a program has not ended well. What it says last is for
// people; that its disk was full is known from nothing else.
func (r *run) failure(exit sandbox.Exit) *warpket.Failure {
	if exit.Signal != 0 {
		return crashed(exit)
	}
	f := &warpket.Failure{Code: warpket.Exited, Message: "the program ended with " + exit.String()}
	said, _ := r.last[1].text()
	if bytes.Contains(bytes.ToLower(said), []byte(strings.ToLower(unix.ENOSPC.Error()))) {
		f.Code = warpket.DiskFull
	}
	if len(said) > 0 {
		f.Message += ": " + strings.ToValidUTF8(string(said[:min(len(said), 1000)]), "\ufffd")
	}
	return f
}

func isJSON(text []byte) bool { return utf8.Valid(text) && json.Valid(text) }

func (r *run) close() {
	_ = r.box.Close()
	r.network()
	_ = r.input.Close()
	<-r.fed
	for _, o := range r.output {
		o.close()
	}
	_ = r.results.Close()
	<-r.read
}

// lockedWriter lets several write, one at a time.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.to.Write(b) // a log that cannot be kept stops nothing
	return len(b), nil
}

// lastLine keeps the last line that is not blank of what is written to it, as
// far as it may be a result.
type lastLine struct {
	line, last         []byte
	lineSize, lastSize int64
}

func (l *lastLine) Write(b []byte) (int, error) {
	written := len(b)
	for {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		l.line = append(l.line, part[:min(len(part), maxResultLine+1-len(l.line))]...)
		l.lineSize += int64(len(part))
		if !ended {
			return written, nil
		}
		l.end()
		b = rest
	}
}

func (l *lastLine) end() {
	if len(bytes.TrimSpace(l.line)) > 0 {
		l.line, l.last, l.lastSize = l.last, l.line, l.lineSize
	}
	l.line, l.lineSize = l.line[:0], 0
}

// text gives the line, and how many bytes it has, kept or not.
func (l *lastLine) text() ([]byte, int64) {
	l.end()
	return bytes.TrimSpace(l.last), l.lastSize
}
