package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/warpket/warpket"
)

const id = warpket.ID("0192f000-0000-7000-8000-000000000001")

func environment(t *testing.T) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterWorkflow(Execute)
	env.RegisterWorkflow(Deploy)
	env.RegisterWorkflow(BuildRuntime)
	env.RegisterWorkflow(FireSchedule)
	env.RegisterWorkflow(DeliverCallback)
	env.RegisterActivity(&Activities{})
	t.Cleanup(func() { env.AssertExpectations(t) })
	return env
}

func TestExecuteEndsWithTheFirstActivityWhenTheNodeHasAnswered(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.Run, mock.Anything, ExecuteInput{ExecutionID: id}).Return(true, nil).Once()
	env.ExecuteWorkflow(Execute, ExecuteInput{ExecutionID: id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestExecuteAttachesToWhatTakesLonger(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]error{"still running": nil, "the first activity failed": errors.New("the database is away")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := environment(t)
			var a *Activities
			env.OnActivity(a.Run, mock.Anything, mock.Anything).Return(false, run).Once()
			env.OnActivity(a.Attach, mock.Anything, id).Return(nil).Once()
			env.ExecuteWorkflow(Execute, ExecuteInput{ExecutionID: id})
			if err := env.GetWorkflowError(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACancelledExecuteCancelsTheExecution(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.Run, mock.Anything, mock.Anything).Return(false, nil).Once()
	env.OnActivity(a.Attach, mock.Anything, id).After(time.Hour).Return(nil).Once()
	env.OnActivity(a.Cancel, mock.Anything, id).Return(nil).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	env.ExecuteWorkflow(Execute, ExecuteInput{ExecutionID: id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestBuildRuntimeLocksThenInstalls(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	lock := env.OnActivity(a.LockRuntime, mock.Anything, id).Return(nil).Once()
	env.OnActivity(a.InstallRuntime, mock.Anything, id).Return(nil).Once().NotBefore(lock)
	env.ExecuteWorkflow(BuildRuntime, BuildRuntimeInput{id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestBuildRuntimeRecordsWhyItFailed(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	refused := temporal.NewNonRetryableApplicationError("no wheel for numpy", string(warpket.Invalid), nil)
	env.OnActivity(a.LockRuntime, mock.Anything, id).Return(refused).Once()
	env.OnActivity(a.FailRuntime, mock.Anything, id, "no wheel for numpy").Return(nil).Once()
	env.ExecuteWorkflow(BuildRuntime, BuildRuntimeInput{id})
	if err := env.GetWorkflowError(); kindOf(err) != warpket.Invalid || messageOf(err) != "no wheel for numpy" {
		t.Errorf("ended with %v", err)
	}
}

// round expects one round of a deployment.
func round(env *testsuite.TestWorkflowEnvironment, plan Plan, settled Settled) {
	var a *Activities
	env.OnActivity(a.ResolveRuntime, mock.Anything, id).Return("qiskit 0.45.3", nil).Once()
	env.OnActivity(a.Place, mock.Anything, id).Return(plan, nil).Once()
	for _, slot := range plan.Prepare {
		env.OnActivity(a.Prepare, mock.Anything, id, slot).Return(nil).Once()
	}
	for _, slot := range plan.Release {
		env.OnActivity(a.ReleaseSlot, mock.Anything, slot).Return(nil).Once()
	}
	env.OnActivity(a.Settle, mock.Anything, id, plan.Short).Return(settled, nil).Once()
}

// detachAt ends the deployment after a while, as every test has to.
func detachAt(t *testing.T, env *testsuite.TestWorkflowEnvironment, after time.Duration) {
	var a *Activities
	env.OnActivity(a.Detach, mock.Anything, id).Return(nil).Once()
	env.RegisterDelayedCallback(func() { update(t, env, detachUpdate) }, after)
}

func update(t *testing.T, env *testsuite.TestWorkflowEnvironment, name string, args ...any) {
	env.UpdateWorkflow(name, name, &testsuite.TestUpdateCallback{
		OnReject: func(err error) { t.Errorf("%s was refused: %v", name, err) },
		OnAccept: func() {},
		OnComplete: func(_ any, err error) {
			if err != nil {
				t.Errorf("%s failed: %v", name, err)
			}
		},
	}, args...)
}

var ready = Settled{Status: warpket.DeploymentReady, Message: "1 of 1 slots serve"}

func deployWith(t *testing.T, env *testsuite.TestWorkflowEnvironment) {
	t.Helper()
	env.ExecuteWorkflow(Deploy, DeployInput{id})
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow has not ended")
	}
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestDeployPreparesSlotsAndWaitsUntilItIsDetached(t *testing.T) {
	t.Parallel()
	env := environment(t)
	round(env, Plan{Prepare: []warpket.ID{"a", "b"}}, ready)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestDeployRepairsWhenANodeIsLost(t *testing.T) {
	t.Parallel()
	env := environment(t)
	round(env, Plan{Prepare: []warpket.ID{"a"}}, ready)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(reconcileSignal, nil) }, time.Minute)
	round(env, Plan{Prepare: []warpket.ID{"b"}}, ready)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestDeployGoesOnAtOnceWhenSlotsWereGivenUpInARound(t *testing.T) {
	t.Parallel()
	env := environment(t)
	round(env, Plan{Prepare: []warpket.ID{"a"}}, Settled{Status: warpket.DeploymentPlacing, Again: true})
	round(env, Plan{Prepare: []warpket.ID{"b"}}, ready)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestDeployWithoutRoomWaitsForNewsOfCapacity(t *testing.T) {
	t.Parallel()
	env := environment(t)
	round(env, Plan{Short: "needs 9 cores"}, Settled{Status: warpket.DeploymentPlacing, Message: "needs 9 cores"})
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(reconcileSignal, nil) }, time.Hour)
	round(env, Plan{Prepare: []warpket.ID{"a"}}, ready)
	detachAt(t, env, 2*time.Hour)
	deployWith(t, env)
}

func TestDeployReplacesSlotsOnceTheNewOnesAreReady(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.ResolveRuntime, mock.Anything, id).Return("qiskit 0.45.3", nil).Once()
	env.OnActivity(a.Place, mock.Anything, id).Return(Plan{Prepare: []warpket.ID{"new"}, Release: []warpket.ID{"surplus"}, Replace: []warpket.ID{"old"}}, nil).Once()
	env.OnActivity(a.ReleaseSlot, mock.Anything, warpket.ID("surplus")).Return(nil).Once()
	prepared := env.OnActivity(a.Prepare, mock.Anything, id, warpket.ID("new")).After(time.Minute).Return(nil).Once()
	env.OnActivity(a.ReleaseSlot, mock.Anything, warpket.ID("old")).Return(nil).Once().NotBefore(prepared)
	env.OnActivity(a.Settle, mock.Anything, id, "").Return(ready, nil).Once()
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestScaleMakesAnotherRound(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	round(env, Plan{Prepare: []warpket.ID{"a", "b"}}, ready)
	seen := time.Date(2026, 11, 27, 15, 0, 0, 1000, time.UTC)
	env.OnActivity(a.Scale, mock.Anything, id, 1, seen).Return(nil).Once()
	env.RegisterDelayedCallback(func() { update(t, env, scaleUpdate, 1, seen) }, time.Minute)
	round(env, Plan{Release: []warpket.ID{"b"}}, ready)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestAServerOfTheReleaseBeforeMayScale(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	round(env, Plan{Prepare: []warpket.ID{"a"}}, ready)
	env.OnActivity(a.Scale, mock.Anything, id, 2, time.Time{}).Return(nil).Once()
	env.RegisterDelayedCallback(func() { update(t, env, scaleUpdate, 2) }, time.Minute) // it says no time
	round(env, Plan{Prepare: []warpket.ID{"b"}}, ready)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
}

func TestScaleOutOfBoundsIsRefused(t *testing.T) {
	t.Parallel()
	env := environment(t)
	round(env, Plan{Prepare: []warpket.ID{"a"}}, ready)
	refused := false
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(scaleUpdate, "x", &testsuite.TestUpdateCallback{
			OnReject: func(error) { refused = true }, OnAccept: func() {}, OnComplete: func(any, error) {},
		}, warpket.MaxSlots+1)
	}, time.Minute)
	detachAt(t, env, time.Hour)
	deployWith(t, env)
	if !refused {
		t.Error("it was taken")
	}
}

func TestDetachInTheMiddleOfARoundEndsTheRound(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.ResolveRuntime, mock.Anything, id).After(24*time.Hour).Return("qiskit 0.45.3", nil).Once()
	env.OnActivity(a.Detach, mock.Anything, id).Return(nil).Once()
	env.RegisterDelayedCallback(func() { update(t, env, detachUpdate) }, time.Minute)
	deployWith(t, env)
}

func TestACancelledDeployIsDetached(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	round(env, Plan{Prepare: []warpket.ID{"a"}}, ready)
	env.OnActivity(a.Detach, mock.Anything, id).Return(nil).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)
	deployWith(t, env)
}

func TestCodeThatDoesNotLoadFailsTheDeployment(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	broken := temporal.NewNonRetryableApplicationError("the code does not load", string(warpket.Invalid), nil)
	env.OnActivity(a.ResolveRuntime, mock.Anything, id).Return("qiskit 0.45.3", nil).Once()
	env.OnActivity(a.Place, mock.Anything, id).Return(Plan{Prepare: []warpket.ID{"a"}}, nil).Once()
	env.OnActivity(a.Prepare, mock.Anything, id, warpket.ID("a")).Return(broken).Once()
	env.OnActivity(a.Fail, mock.Anything, id, "the code does not load").Return(nil).Once()
	env.ExecuteWorkflow(Deploy, DeployInput{id})
	if err := env.GetWorkflowError(); err == nil || messageOf(err) != "the code does not load" {
		t.Errorf("ended with %v", err)
	}
}

func TestADeploymentWhoseFunctionIsDeletedEnds(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	gone := temporal.NewNonRetryableApplicationError("there is no deployment", string(warpket.NotFound), nil)
	env.OnActivity(a.ResolveRuntime, mock.Anything, id).Return("", gone).Once()
	deployWith(t, env)
}
