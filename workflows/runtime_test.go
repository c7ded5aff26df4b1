package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestTheImageOfARuntimeIsPulledWhenItIsBuilt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	now := time.Now()
	pinned := "registry.example/python@sha256:" + strings.Repeat("1", 64)
	r, err := c.store.CreateRuntime(t.Context(), warpket.Runtime{
		ID: warpket.NewID(now), ProjectID: c.project, Name: "lab", Trusted: true, RuntimeKey: warpket.ImageRuntime("linux/amd64"), CreatedDate: now,
		Image: &warpket.Image{Reference: "registry.example/python:3", Pinned: pinned},
	})
	c.must(err)
	c.exec(`update runtimes set status = 'failed' where id = $1`, r.ID) // or the server would have Temporal build it, which is not there
	s := c.server()
	n := c.node(s, succeed)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(s.Activities)
	for _, step := range []any{s.LockRuntime, s.InstallRuntime} {
		if _, err := env.ExecuteActivity(step, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.pulled) != 1 || n.pulled[0].GetImage().GetReference() != pinned || n.pulled[0].GetRuntime().GetProject() != string(c.project) {
		t.Errorf("pulled: %v", n.pulled)
	}
	if r, err = c.store.Runtime(t.Context(), r.ID); err != nil || r.Status != warpket.RuntimeAvailable {
		t.Errorf("it is %+v (%v)", r, err)
	}
	c.exec(`update outbox set created_date = created_date - interval '1 minute'`)
	if promises, err := c.store.Overdue(t.Context()); err != nil || len(promises) > 0 {
		t.Errorf("still promised: %+v (%v)", promises, err)
	}
}

func TestARuntimeThatIsSettledIsNotBuiltAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server() // without Temporal, which it would have to ask
	e := c.execution()
	c.must(s.fleet.keep(t.Context(), postgres.Promise{Kind: "build", SubjectID: e.RuntimeID}))
	c.must(s.fleet.keep(t.Context(), postgres.Promise{Kind: "build", SubjectID: warpket.NewID(time.Now())})) // it was deleted
}
