package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/testsuite"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// drafted is a server and a node with a deployment of a function's draft.
type drafted struct {
	*testServer
	*testsuite.TestActivityEnvironment

	cluster *cluster
	of      warpket.Execution // of the function
	id      warpket.ID        // of the deployment
	told    chan string       // workflows that have got a signal
	node    *testNode
}

func newDrafted(t *testing.T) *drafted {
	t.Helper()
	c := newCluster(t)
	temporal := &mocks.Client{}
	d := &drafted{cluster: c, told: make(chan string, 100)}
	temporal.On("SignalWorkflow", mock.Anything, mock.Anything, "", reconcileSignal, nil).Run(func(args mock.Arguments) { d.told <- args.String(1) }).Return(nil)
	c.client = &Client{deployments: temporal}
	d.testServer = c.server()
	d.node = c.node(d.testServer, succeed)
	d.of = c.execution()
	now := time.Now()
	d.id = warpket.NewID(now)
	d.set("first", d.of.RuntimeID)
	c.must(c.store.CreateDeployment(t.Context(), warpket.Deployment{
		ID: d.id, ProjectID: c.project, FunctionID: d.of.FunctionID, Slots: 1, Resources: warpket.Resources{CPU: 500, Memory: 512 << 20}, Status: warpket.DeploymentPending, CreatedDate: now,
	}))
	var suite testsuite.WorkflowTestSuite
	d.TestActivityEnvironment = suite.NewTestActivityEnvironment()
	d.RegisterActivity(d.Activities)
	return d
}

// set sets the draft and gives its snapshot.
func (d *drafted) set(digest string, runtime warpket.ID) warpket.ID {
	d.cluster.t.Helper()
	id, err := d.trySet(digest, runtime)
	d.cluster.must(err)
	return id
}

func (d *drafted) trySet(digest string, runtime warpket.ID) (warpket.ID, error) {
	now := time.Now()
	n := warpket.Snapshot{ID: warpket.NewID(now), ProjectID: d.cluster.project, FunctionID: d.of.FunctionID, RuntimeID: runtime, Digest: digest, CreatedDate: now}
	_, err := d.cluster.store.SetDraft(d.cluster.t.Context(), n, now, func(warpket.Draft) error { return nil })
	return n.ID, err
}

func (d *drafted) place() (plan Plan) {
	d.cluster.t.Helper()
	result, err := d.ExecuteActivity(d.Place, d.id)
	d.cluster.must(err)
	d.cluster.must(result.Get(&plan))
	return plan
}

func (d *drafted) prepare(slot warpket.ID) {
	d.cluster.t.Helper()
	_, err := d.ExecuteActivity(d.Prepare, d.id, slot)
	d.cluster.must(err)
}

func (d *drafted) settle(short string) (s Settled) {
	d.cluster.t.Helper()
	result, err := d.ExecuteActivity(d.Settle, d.id, short)
	d.cluster.must(err)
	d.cluster.must(result.Get(&s))
	return s
}

// slots are the snapshots in the deployment's slots.
func (d *drafted) slots() (snapshots []warpket.ID) {
	d.cluster.t.Helper()
	slots, err := d.cluster.store.DeploymentSlots(d.cluster.t.Context(), d.id)
	d.cluster.must(err)
	for _, s := range slots {
		snapshots = append(snapshots, s.SnapshotID)
	}
	return snapshots
}

func TestADraftThatChangesGetsNewSlotsBeforeTheOldOnesGo(t *testing.T) {
	t.Parallel()
	d := newDrafted(t)
	plan := d.place()
	if len(plan.Prepare) != 1 {
		t.Fatalf("the plan is %+v", plan)
	}
	old := plan.Prepare[0]
	d.prepare(old)
	if s := d.settle(""); s.Status != warpket.DeploymentReady {
		t.Fatalf("settled %+v", s)
	}

	n := d.set("second", d.of.RuntimeID)
	if told := <-d.told; told != string(d.id) {
		t.Errorf("%s was told", told)
	}
	plan = d.place()
	if len(plan.Prepare) != 1 || !slices.Equal(plan.Replace, []warpket.ID{old}) || len(plan.Release) != 0 {
		t.Fatalf("the plan is %+v", plan)
	}
	d.prepare(plan.Prepare[0])
	if _, err := d.ExecuteActivity(d.ReleaseSlot, old); err != nil {
		t.Error(err)
	}
	if s := d.settle(plan.Short); s.Status != warpket.DeploymentReady || s.Again {
		t.Errorf("settled %+v", s)
	}
	if slots := d.slots(); !slices.Equal(slots, []warpket.ID{n}) {
		t.Errorf("the slots hold %v, want %s", slots, n)
	}
	if plan := d.place(); len(plan.Prepare)+len(plan.Release)+len(plan.Replace) != 0 {
		t.Errorf("then there is this to do: %+v", plan)
	}
	if _, idle := d.Nodes.Serves(n, 0, warpket.Resources{CPU: 500, Memory: 512 << 20}); !idle {
		t.Error("the new draft is not served")
	}
}

func TestADraftThatChangesWhileItsSlotIsPreparedLeavesThatSlot(t *testing.T) {
	t.Parallel()
	d := newDrafted(t)
	old := d.place().Prepare
	n := d.set("second", d.of.RuntimeID)
	plan := d.place()
	if !slices.Equal(plan.Release, old) || len(plan.Prepare) != 1 || plan.Prepare[0] == old[0] {
		t.Fatalf("the plan is %+v", plan)
	}
	if _, err := d.ExecuteActivity(d.ReleaseSlot, old[0]); err != nil {
		t.Error(err)
	}
	if slots := d.slots(); !slices.Equal(slots, []warpket.ID{n}) {
		t.Errorf("the slots hold %v, want %s", slots, n)
	}
}

func TestOnlyADraftThatStillIsOneFailsItsDeployment(t *testing.T) {
	t.Parallel()
	for name, mended := range map[string]bool{"nobody has mended it": false, "it was mended while it was prepared": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrafted(t)
			slot := d.place().Prepare[0]
			d.node.mu.Lock()
			d.node.broken = func() *wire.Failure {
				if mended {
					if _, err := d.trySet("mended", d.of.RuntimeID); err != nil {
						t.Error(err)
					}
				}
				return &wire.Failure{Code: string(warpket.ImportFailed), Message: "invalid syntax"}
			}
			d.node.mu.Unlock()
			_, err := d.ExecuteActivity(d.Prepare, d.id, slot)
			if failed := kindOf(err) == warpket.Invalid; failed == mended || mended && err != nil {
				t.Errorf("preparing it ended with %v", err)
			}
		})
	}
}

func TestADraftWhoseRuntimeIsNotBuiltYetIsNotPlaced(t *testing.T) {
	t.Parallel()
	d := newDrafted(t)
	r, err := d.cluster.store.EnsureRuntime(t.Context(), warpket.Runtime{
		ID: warpket.NewID(time.Now()), RuntimeKey: warpket.RuntimeKey{SDK: "python", SDKVersion: "2", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Python", CreatedDate: time.Now(),
	})
	d.cluster.must(err)
	d.cluster.must(d.cluster.store.AdvanceDeployment(t.Context(), d.id, warpket.DeploymentPlacing, "", time.Now()))
	d.set("second", r.ID) // after the round has resolved the runtime of the first
	plan := d.place()
	if len(plan.Prepare) != 0 || len(d.slots()) != 0 {
		t.Errorf("the plan is %+v", plan)
	}
	if s := d.settle(plan.Short); !s.Again || s.Status.Final() {
		t.Errorf("settled %+v", s)
	}
}
