package e2e

import (
	"context"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestAnythingMayHappenToExecutionsAndNothingIsLeft is a short form of "go run
// ./bench --soak 10000".
func TestAnythingMayHappenToExecutionsAndNothingIsLeft(t *testing.T) {
	program(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "run", "./bench", "--soak", "400")
	cmd.Dir = ".."
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}
