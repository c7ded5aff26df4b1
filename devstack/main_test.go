package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asDevstack makes the test binary behave as the devstack: linking that once
// is long enough.
const asDevstack = "WARPKET_TEST_AS_DEVSTACK"

func TestMain(m *testing.M) {
	if os.Getenv(asDevstack) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// deadline is when a test stops waiting for something that should happen.
const deadline = 90 * time.Second

// running is a devstack that a test has started.
type running struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	hold   io.Closer
	lines  chan line // closed when the devstack has ended
	stderr *strings.Builder
}

// line is a line of its output, of either kind.
type line struct {
	event
	Ready *addresses `json:"ready"`
}

// start starts a devstack on a directory.
func start(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	r := &running{t: t, dir: dir, lines: make(chan line, 1000), stderr: new(strings.Builder)}
	r.cmd = exec.Command("/proc/self/exe", append([]string{"--data", dir}, args...)...)
	r.cmd.Env = append(os.Environ(), asDevstack+"=1")
	r.cmd.Stderr = r.stderr
	var err error
	if r.hold, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var l line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Errorf("%s is not an event: %v", lines.Text(), err)
			}
			r.lines <- l
		}
	}()
	t.Cleanup(func() {
		_ = r.hold.Close()
		r.end()
		if t.Failed() {
			r.printLogs()
		}
	})
	return r
}

// until reads lines up to the first that is wanted.
func (r *running) until(what string, wanted func(line) bool) line {
	r.t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case l, more := <-r.lines:
			if !more {
				r.t.Fatalf("the devstack ended before %s: %s", what, r.stderr)
			}
			if wanted(l) {
				return l
			}
		case <-timeout:
			r.t.Fatalf("no %s", what)
		}
	}
}

// ready waits until all parts are ready.
func (r *running) ready() addresses {
	r.t.Helper()
	return *r.until("being ready", func(l line) bool { return l.Ready != nil }).Ready
}

// phase waits for an event.
func (r *running) phase(part string, ph phase) {
	r.t.Helper()
	r.until(part+" "+string(ph), func(l line) bool { return l.Part == part && l.Phase == ph })
}

// end waits until the devstack has ended, and returns its exit code.
func (r *running) end() int {
	timeout := time.AfterFunc(deadline, func() { _ = r.cmd.Process.Kill() })
	defer timeout.Stop()
	for range r.lines {
	}
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// stop stops the devstack as its parent does, and expects it to obey.
func (r *running) stop() {
	r.t.Helper()
	began := time.Now()
	_ = r.hold.Close()
	if code := r.end(); code != 0 {
		r.t.Fatalf("exit code %d, want 0: %s", code, r.stderr)
	}
	if took := time.Since(began); took > 20*time.Second {
		r.t.Errorf("stopping took %s", took)
	}
	if left := processesFor(r.dir); len(left) > 0 {
		r.t.Errorf("processes left behind: %v", left)
	}
}

// part returns the pid of a part's process.
func (r *running) part(name string) int {
	r.t.Helper()
	for pid, args := range processesFor(r.dir) {
		if strings.Contains(args, " part "+name+" ") {
			return pid
		}
	}
	r.t.Fatalf("no process of %s", name)
	return 0
}

// in is the same devstack for a subtest, which then is what fails.
func (r *running) in(t *testing.T) *running {
	same := *r
	same.t = t
	return &same
}

func (r *running) printLogs() {
	logs, _ := filepath.Glob(quoteGlob(r.dir) + "/log/*.log")
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		r.t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-2000):])
	}
}

// processesFor returns the arguments of all processes that work for a data
// directory, by pid.
func processesFor(dir string) map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		text, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		args := strings.ReplaceAll(string(text), "\x00", " ")
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		if strings.Contains(args, dir) || strings.HasPrefix(cwd, dir+"/") {
			found[pid] = args
		}
	}
	return found
}

// kill ends a process as nothing else does.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// allGone waits until the processes of a data directory have ended.
func allGone(t *testing.T, dir string, within time.Duration) {
	t.Helper()
	end := time.Now().Add(within)
	for pid, args := range processesFor(dir) {
		if !waitGone(pid, time.Until(end)) {
			t.Errorf("still there after %s: %d %s", within, pid, args)
		}
	}
}

// refusal starts a devstack that is expected not to start, and returns its words.
func refusal(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := start(t, dir, args...)
	if code := r.end(); code != 1 {
		t.Fatalf("exit code %d, want 1", code)
	}
	return r.stderr.String()
}

func TestOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tests := map[string]struct {
		args []string
		want string // in the error; "" means allowed
	}{
		"all parts are the default":                     {[]string{"--data", dir}, ""},
		"a directory is required":                       {nil, "--data is required"},
		"an unknown part is named":                      {[]string{"--data", dir, "--parts", "s3,redis"}, `no part "redis"`},
		"temporal needs a postgres":                     {[]string{"--data", dir, "--parts", "temporal"}, "temporal needs a Postgres"},
		"temporal may use another postgres":             {[]string{"--data", dir, "--parts", "temporal", "--postgres-url", "postgres://u@h/d"}, ""},
		"two postgres are one too many":                 {[]string{"--data", dir, "--postgres-url", "postgres://u@h/d"}, "leave postgres out of --parts"},
		"a wrong address does not show its password":    {[]string{"--data", dir, "--parts", "temporal", "--postgres-url", "postgres://u:hush@h:x/d"}, "--postgres-url is not a URL"},
		"all mistakes are reported together":            {[]string{"--parts", "redis", "more"}, "--data is required"},
		"what is no flag is refused and not overlooked": {[]string{"--data", dir, "more"}, `unexpected argument "more"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseOptions(test.args, func(string) string { return "" }, io.Discard)
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Fatalf("%v shows the password", err)
			}
		})
	}
}

func TestKeptPortsStayAndTakenOnesAreReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ports.json")
	names := []string{"a", "b", "c"}
	first, err := loadPorts(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.settle(names...); err != nil {
		t.Fatal(err)
	}
	again, err := loadPorts(path)
	if err != nil {
		t.Fatal(err)
	}
	if replaced, err := again.settle(names...); err != nil || len(replaced) > 0 {
		t.Fatalf("free ports were replaced: %v %v", replaced, err)
	}
	thief := listen(t, first.address("b"))
	defer thief.Close()
	replaced, err := again.settle(names...)
	if err != nil {
		t.Fatal(err)
	}
	if len(replaced) != 1 || again.of("b") == first.of("b") || again.of("a") != first.of("a") {
		t.Errorf("got %v %v, had %v", replaced, again.kept, first.kept)
	}
	all := []int{again.of("a"), again.of("b"), again.of("c")}
	if slices.Sort(all); len(slices.Compact(all)) != 3 {
		t.Errorf("two names share a port: %v", again.kept)
	}
}

func TestAFullLogIsSetAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, make([]byte, logLimit+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the new log has %v, %v", info, err)
	}
	if !exists(path + ".1") {
		t.Error("the old log is lost")
	}
}

func TestDataOfAnotherMajorVersionIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		dirs map[string]string // name to version
		want bool              // refused
	}{
		"a directory of an older release":          {map[string]string{"pg17": "17"}, true},
		"older data in the place of ours":          {map[string]string{"pg18": "17"}, true},
		"newer data":                               {map[string]string{"pg19": "19"}, true},
		"an older directory that was carried over": {map[string]string{"pg17": "17", "pg18": "18"}, false},
		"ours":        {map[string]string{"pg18": "18"}, false},
		"none at all": {nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, version := range test.dirs {
				if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name, "PG_VERSION"), []byte(version+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := refuseOtherMajor(dir); (err != nil) != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAProcessThatHasEndedIsNotAlive(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !waitGone(cmd.Process.Pid, deadline) || alive(cmd.Process.Pid) {
		t.Error("it is alive before its parent has taken notice")
	}
	if err := cmd.Wait(); err != nil || alive(cmd.Process.Pid) {
		t.Errorf("it is alive after that: %v", err)
	}
	if alive(0) || !alive(os.Getpid()) || !alive(1) {
		t.Error("the living are not alive, or nobody is")
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, path)), v); err != nil {
		t.Fatal(err)
	}
}
