package workflows

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

// RunWorkers serves workflows and activities of both namespaces until ctx ends.
func (c *Client) RunWorkers(ctx context.Context, a *Activities) error {
	var stopping sync.WaitGroup
	defer stopping.Wait()
	for _, w := range []worker.Worker{c.executionWorker(a), c.deploymentWorker(a)} {
		if err := w.Start(); err != nil {
			return fmt.Errorf("starting a Temporal worker: %w", err)
		}
		defer stopping.Go(w.Stop) // side by side
	}
	<-ctx.Done()
	return nil
}

func (c *Client) executionWorker(a *Activities) worker.Worker {
	w := newWorker(c.executions, executionQueue)
	w.RegisterWorkflow(Execute)
	w.RegisterActivity(a.Run)
	w.RegisterActivity(a.Attach)
	w.RegisterActivity(a.Cancel)
	w.RegisterWorkflow(FireSchedule)
	w.RegisterActivity(a.Fire)
	w.RegisterWorkflow(DeliverCallback)
	w.RegisterActivity(a.SendCallback)
	w.RegisterActivity(a.FailCallback)
	return w
}

func (c *Client) deploymentWorker(a *Activities) worker.Worker {
	w := newWorker(c.deployments, deploymentQueue)
	w.RegisterWorkflow(Deploy)
	w.RegisterWorkflow(BuildRuntime)
	w.RegisterWorkflow(BuildVersion)
	for _, activity := range []any{a.LockRuntime, a.InstallRuntime, a.FailRuntime, a.CompileVersion, a.ResolveRuntime, a.Place, a.Prepare, a.ReleaseSlot, a.Settle, a.Scale, a.Detach, a.Fail} {
		w.RegisterActivity(activity)
	}
	return w
}

// newWorker makes a worker with room for many activities that only wait.
func newWorker(c client.Client, queue string) worker.Worker {
	return worker.New(c, queue, worker.Options{
		MaxConcurrentActivityExecutionSize:      10_000,
		MaxConcurrentLocalActivityExecutionSize: 1_000,
		WorkerStopTimeout:                       time.Second,
	})
}
