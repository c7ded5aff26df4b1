package workflows

import (
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
