package workflows

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// BuildVersionInput names a build.
type BuildVersionInput struct{ BuildID warpket.ID }

// BuildVersion has a node compile a version's files and keeps the program. That
// they do not compile is a result as well, which is kept. A compiler that was
// killed or timed out has none: whoever asks next has it run again.
func BuildVersion(ctx workflow.Context, in BuildVersionInput) error {
	var a *Activities
	const summary = "compile on a node"
	workflow.SetCurrentDetails(ctx, summary)
	var status warpket.BuildStatus
	if err := workflow.ExecuteActivity(building(ctx, summary), a.CompileVersion, in.BuildID).Get(ctx, &status); err != nil {
		return err
	}
	workflow.SetCurrentDetails(ctx, string(status))
	return nil
}

// CompileVersion has a node compile a build, unless that was done before.
func (a *Activities) CompileVersion(ctx context.Context, id warpket.ID) (warpket.BuildStatus, error) {
	b, err := a.Store.Build(ctx, id)
	if err != nil || b.Status != warpket.BuildPending {
		return b.Status, outcome(err)
	}
	snapshot, err := a.Store.Snapshot(ctx, b.SnapshotID)
	if err != nil {
		return "", outcome(err)
	}
	r, spec, err := a.runtime(ctx, snapshot.RuntimeID)
	if err != nil {
		return "", outcome(err)
	}
	node, err := a.builder(ctx, r)
	if err != nil {
		return "", outcome(err)
	}
	in := &wire.Build{Runtime: spec, Entry: snapshot.Entry, Architectures: b.Architectures}
	if in.Files, err = a.filesOf(ctx, snapshot); err != nil {
		return "", outcome(err)
	}
	say := heartbeat(ctx)
	say("compiling on " + node.NodeName)
	binary, log, failed, err := a.Nodes.Build(ctx, node.NodeID, in, say)
	if err != nil {
		return "", outcome(fmt.Errorf("compiling on node %s: %w", node.NodeName, err))
	}
	b.Log, b.Status = string(log), warpket.BuildSucceeded
	if failed != nil && failed.Code != warpket.BuildFailed { // more time, or another machine, may do
		return "", outcome(warpket.Errorf(warpket.Invalid, "the compiler did not come to an end: %s", failed.Message))
	}
	if failed != nil {
		b.Status, b.Message = warpket.BuildFails, failed.Message
		return b.Status, outcome(a.Store.FinishBuild(ctx, b, a.Now()))
	}
	b.SHA256, b.Size = warpket.SHA256(binary), int64(len(binary))
	if err := a.touch(ctx, b.ProjectID, b.SHA256, b.Size); err != nil {
		return "", outcome(err)
	}
	if _, err := a.Blobs.Put(ctx, b.ProjectID, binary); err != nil {
		return "", outcome(err)
	}
	return b.Status, outcome(a.Store.FinishBuild(ctx, b, a.Now()))
}

// filesOf are a snapshot's files, for a node.
func (a *Activities) filesOf(ctx context.Context, snapshot warpket.Snapshot) (files []*wire.File, err error) {
	for _, f := range snapshot.Files {
		url, err := a.Blobs.GetURL(ctx, snapshot.ProjectID, f.SHA256, urlLife)
		if err != nil {
			return nil, err
		}
		files = append(files, &wire.File{Path: f.Path, Sha256: f.SHA256, Size: f.Size, Url: url})
	}
	return files, nil
}

// architectures are what versions are compiled for now.
func (a *Activities) architectures(ctx context.Context) ([]string, error) {
	fleet, err := a.Store.Fleet(ctx)
	return warpket.Architectures(fleet), err
}

// ensureBuild returns when a snapshot is compiled for the fleet, with what was
// made; nil if its runtime has no compiler. The error of one that does not
// compile is Invalid.
func (a *Activities) ensureBuild(ctx context.Context, project, snapshot, runtime warpket.ID, begin func(string)) (*warpket.Build, error) {
	compiles, err := a.compiles(ctx, runtime)
	if err != nil || !compiles {
		return nil, err
	}
	architectures, err := a.architectures(ctx)
	if err != nil {
		return nil, err
	}
	b, err := a.Store.EnsureBuild(ctx, warpket.Build{ID: warpket.NewID(a.Now()), ProjectID: project, SnapshotID: snapshot, Architectures: architectures, CreatedDate: a.Now()})
	if err != nil {
		return nil, err
	}
	if b.Status == warpket.BuildPending {
		begin("compiling for " + strings.Join(architectures, ", "))
		if err := a.Client.buildVersion(ctx, b); err != nil {
			if kindOf(err) == warpket.Invalid {
				return nil, notCompiled{warpket.Errorf(warpket.Invalid, "the files cannot be compiled: %s", messageOf(err))}
			}
			return nil, fmt.Errorf("compiling snapshot %s: %w", snapshot, err)
		}
		if b, err = a.Store.Build(ctx, b.ID); err != nil {
			return nil, err
		}
	}
	if err := b.Err(); err != nil {
		return nil, notCompiled{err}
	}
	return &b, nil
}

// notCompiled is the error of files that do not compile.
type notCompiled struct{ error }

func (e notCompiled) Unwrap() error { return e.error }

// compiles reports whether versions on a runtime are compiled before they run.
func (a *Activities) compiles(ctx context.Context, runtime warpket.ID) (bool, error) {
	r, err := a.Store.Runtime(ctx, runtime)
	if err != nil || r.OfImages() {
		return false, err
	}
	template, err := a.Catalog.Template(r.TemplateTag)
	return template.Compiler != "", err
}
