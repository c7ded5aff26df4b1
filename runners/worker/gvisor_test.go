package worker_test

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

// runsc is the variable that names gVisor's program. "make test" builds that.
const runsc = "WARPKET_TEST_RUNSC"

func hasGVisor() bool { return os.Getenv(runsc) != "" || os.Getenv("CI") != "" }

var (
	gvisorOnce  sync.Once
	underGVisor *sandbox.GVisor
	gvisorErr   error
)

func gvisor(t testing.TB) *sandbox.GVisor {
	t.Helper()
	namespaces(t) // at whose end it is closed
	gvisorOnce.Do(func() {
		underGVisor, gvisorErr = sandbox.NewGVisor(t.Context(), os.Getenv(runsc), "gvisor-"+launcherName())
	})
	if gvisorErr != nil {
		t.Fatal(gvisorErr)
	}
	return underGVisor
}

func startUnderGVisor(t testing.TB, config worker.Config) *worker.Worker {
	t.Helper()
	config.Launcher = gvisor(t)
	return startWith(t, config)
}

func TestAFunctionThatNeedsTheNetworkIsRefusedUnderGVisor(t *testing.T) {
	t.Parallel()
	if !hasGVisor() {
		t.Skip(runsc + ` names no runsc; "make test" builds one`)
	}
	proxy, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	config := configFor(t, "def handler():\n    return 1")
	config.Launcher, config.Egress = gvisor(t), proxy
	w, err := worker.Start(t.Context(), config)
	if err == nil {
		_ = w.Close()
	}
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "a network cannot run on this node, whose isolation is gvisor") {
		t.Errorf("error %v", err)
	}
}
