package workflows

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/templates"
)

// BuildRuntimeInput names a runtime.
type BuildRuntimeInput struct{ RuntimeID warpket.ID }

// BuildRuntime makes a runtime usable: one node locks it, once for the
// cluster, then a node installs the lock and does the smoke run, or pulls the
// image that it is made of. Other nodes install it when they first need it.
func BuildRuntime(ctx workflow.Context, in BuildRuntimeInput) error {
	var a *Activities
	for _, step := range []struct {
		summary string
		do      any
	}{{"lock: resolve to exact packages with hashes", a.LockRuntime}, {"install on a node and do the smoke run", a.InstallRuntime}} {
		workflow.SetCurrentDetails(ctx, step.summary)
		if err := workflow.ExecuteActivity(building(ctx, step.summary), step.do, in.RuntimeID).Get(ctx, nil); err != nil {
			detached, _ := workflow.NewDisconnectedContext(ctx)
			reason := messageOf(err)
			workflow.SetCurrentDetails(ctx, "failed: "+reason)
			if err := workflow.ExecuteActivity(short(detached, "record the failure"), a.FailRuntime, in.RuntimeID, reason).Get(detached, nil); err != nil {
				return err
			}
			return temporal.NewNonRetryableApplicationError(reason, string(warpket.Invalid), nil)
		}
	}
	workflow.SetCurrentDetails(ctx, "available")
	return nil
}

// building is for work on a node that takes minutes and shows its progress. A
// node that dies in the middle is replaced; what fails again and again fails.
func building(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Minute,
		HeartbeatTimeout:    10 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second, MaximumAttempts: 10},
		Summary:             summary,
	})
}

// LockRuntime has a node resolve the runtime to exact packages, unless that was
// done before.
func (a *Activities) LockRuntime(ctx context.Context, id warpket.ID) error {
	if err := a.Store.Kept(ctx, postgres.Promise{Kind: "build", SubjectID: id}); err != nil {
		return outcome(err)
	}
	r, spec, err := a.runtime(ctx, id)
	if err != nil || r.Lock != "" || r.OfImages() {
		return outcome(err)
	}
	node, err := a.builder(ctx, r)
	if err != nil {
		return outcome(err)
	}
	say := a.progress(ctx, r)
	say("locking on " + node.NodeName)
	lock, err := a.Nodes.Lock(ctx, node.NodeID, spec, say)
	if err != nil {
		return outcome(err)
	}
	_, err = a.Store.SaveRuntime(ctx, id, warpket.RuntimeBuilding, lock, "locked", a.Now())
	return outcome(err)
}

// InstallRuntime has a node install the locked runtime and do its smoke run, or
// pull its image.
func (a *Activities) InstallRuntime(ctx context.Context, id warpket.ID) error {
	r, spec, err := a.runtime(ctx, id)
	if err != nil {
		return outcome(err)
	}
	node, err := a.builder(ctx, r)
	if err != nil {
		return outcome(err)
	}
	say := a.progress(ctx, r)
	in := &wire.Install{Runtime: spec}
	if r.Image != nil {
		if in.Image, err = a.image(ctx, r.ProjectID, r.Credentials, *r.Image); err != nil {
			return outcome(err)
		}
	}
	say("installing on " + node.NodeName)
	if err := a.Nodes.Install(ctx, node.NodeID, in, say); err != nil {
		return outcome(err)
	}
	_, err = a.Store.SaveRuntime(ctx, id, warpket.RuntimeAvailable, "", "", a.Now())
	return outcome(err)
}

// FailRuntime records why a runtime cannot be built.
func (a *Activities) FailRuntime(ctx context.Context, id warpket.ID, reason string) error {
	_, err := a.Store.SaveRuntime(ctx, id, warpket.RuntimeFailed, "", reason, a.Now())
	return outcome(err)
}

// runtime reads a runtime and says to a node what it is made of.
func (a *Activities) runtime(ctx context.Context, id warpket.ID) (warpket.Runtime, *wire.Runtime, error) {
	r, err := a.Store.Runtime(ctx, id)
	if err != nil {
		return r, nil, err
	}
	if r.OfImages() {
		return r, &wire.Runtime{Sdk: r.SDK, Platform: r.Platform, Project: string(r.ProjectID)}, nil
	}
	template, err := a.Catalog.Template(r.TemplateTag)
	if err != nil {
		return r, nil, err
	}
	packages := template.Requirements
	if r.SDK != templates.Python {
		packages = template.Packages(r.SDKVersion)
	}
	spec := &wire.Runtime{
		Sdk: r.SDK, SdkVersion: r.SDKVersion, Python: r.Python, Platform: r.Platform, Requirements: r.Requirements,
		Packages: packages, Lock: r.Lock, Smoke: template.Smoke, Project: string(r.ProjectID), Lines: r.Lines, Compiler: string(template.Compiler),
	}
	if !r.LockedUntil.IsZero() {
		spec.ReleasedUntil = r.LockedUntil.Unix()
	}
	return r, spec, nil
}

// builder picks a node that can build the runtime; any that is up will do.
func (a *Activities) builder(ctx context.Context, r warpket.Runtime) (d placement.Decision, err error) {
	err = a.places.use(ctx, func(fleet *placement.Fleet) (err error) {
		d, err = fleet.Place(placement.Request{Platform: r.Platform, Python: r.Python, Images: r.OfImages()})
		return err
	})
	return d, err
}

// progress records how far a build is, where people look: on the runtime, and
// in the Temporal UI as the activity's heartbeat. It heartbeats on its own
// until the activity's context ends.
func (a *Activities) progress(ctx context.Context, r warpket.Runtime) func(string) {
	say := heartbeat(ctx)
	return func(text string) {
		say(text)
		if _, err := a.Store.SaveRuntime(ctx, r.ID, warpket.RuntimeBuilding, "", text, a.Now()); err != nil {
			activity.GetLogger(ctx).Warn("progress not recorded", "error", err)
		}
	}
}

// ensureRuntime returns when the runtime can be installed anywhere. The error
// of one that cannot be built is Invalid.
func (a *Activities) ensureRuntime(ctx context.Context, id warpket.ID) error {
	r, err := a.Store.Runtime(ctx, id)
	if err != nil || r.Status == warpket.RuntimeAvailable {
		return err
	}
	if err := a.Client.buildRuntime(ctx, r); err != nil {
		if k := kindOf(err); k == warpket.Invalid {
			return warpket.Errorf(warpket.Invalid, "the runtime %s %s on Python %s cannot be built: %s", r.SDK, r.SDKVersion, r.Python, messageOf(err))
		}
		return fmt.Errorf("building the runtime %s: %w", r.RuntimeKey, err)
	}
	return nil
}
