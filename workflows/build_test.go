package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/testsuite"

	"github.com/warpket/warpket"
)

func TestFilesThatDoNotCompileAreCompiledOnceAndSayWhy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	e := c.execution()
	s := c.server()
	n := c.node(s, succeed)
	b, err := c.store.EnsureBuild(t.Context(), warpket.Build{ID: warpket.NewID(time.Now()), ProjectID: c.project, SnapshotID: e.SnapshotID, Architectures: []string{"8.0", "9.0"}, CreatedDate: time.Now()})
	c.must(err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(s.Activities)
	for range 2 { // as when a server dies after the first
		var status warpket.BuildStatus
		value, err := env.ExecuteActivity(s.CompileVersion, b.ID)
		c.must(err)
		c.must(value.Get(&status))
		if status != warpket.BuildFails {
			t.Errorf("it is %q", status)
		}
	}
	if len(n.builds) != 1 || !cmp.Equal(n.builds[0].GetArchitectures(), b.Architectures) {
		t.Errorf("asked of the node: %v", n.builds)
	}
	b, err = c.store.Build(t.Context(), b.ID)
	c.must(err)
	if b.Message != "main.cu(1): error" || b.Log != "main.cu(1): error\ufffd\ufffd" || warpket.KindOf(b.Err()) != warpket.Invalid {
		t.Errorf("it is %+v", b)
	}
}

func TestACompilerThatWasKilledRunsAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	e := c.execution()
	s := c.server()
	n := c.node(s, succeed)
	n.killed = true
	b, err := c.store.EnsureBuild(t.Context(), warpket.Build{ID: warpket.NewID(time.Now()), ProjectID: c.project, SnapshotID: e.SnapshotID, Architectures: []string{"9.0"}, CreatedDate: time.Now()})
	c.must(err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(s.Activities)
	for range 2 {
		_, err := env.ExecuteActivity(s.CompileVersion, b.ID)
		if kindOf(err) != warpket.Invalid || !strings.Contains(messageOf(err), "it needed too much") {
			t.Errorf("the error is %v", err)
		}
	}
	if b, err = c.store.Build(t.Context(), b.ID); err != nil || b.Status != warpket.BuildPending || len(n.builds) != 2 {
		t.Errorf("after %d tries it is %+v, %v", len(n.builds), b, err)
	}
}
