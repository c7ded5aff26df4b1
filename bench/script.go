package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// script is a peer's program. It says one line when it is ready and answers
// each line that it gets with a line. It ends with its standard input.
type script struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
	log   string
}

// startScript starts a program of bench/peers, whose log is in a folder.
func startScript(cmd *exec.Cmd, dir, name string) (*script, error) {
	s := &script{name: name, cmd: cmd, log: filepath.Join(dir, name+".log")}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd.Stderr = log
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.lines = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return s, nil
}

// hear reads the next line that the program says.
func (s *script) hear(answer any) error {
	line, err := s.lines.ReadBytes('\n')
	if err != nil {
		text, _ := os.ReadFile(s.log)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("%s ended, having said: %s", s.name, strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
	if err := json.Unmarshal(line, answer); err != nil {
		return fmt.Errorf("%s said %q: %w", s.name, line, err)
	}
	return nil
}

// ask says a line to the program and hears its answer.
func (s *script) ask(question, answer any) error {
	if err := json.NewEncoder(s.in).Encode(question); err != nil {
		return fmt.Errorf("asking %s: %w", s.name, err)
	}
	return s.hear(answer)
}

// stop ends the program and whatever it started.
func (s *script) stop() {
	started := descendants(s.cmd.Process.Pid, processTable())
	_ = s.in.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Cancel() })
	_, _ = io.Copy(io.Discard, s.lines)
	_ = s.cmd.Wait()
	late.Stop()
	for _, pid := range started {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// endGroup makes a command the head of a process group, which ends with it
// when its context does.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}
