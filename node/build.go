package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/worker"
)

// What a compiler may use.
var buildResources = warpket.Resources{CPU: 2000, Memory: 4 << 30}

// buildTimeout is how long a compiler may take.
const buildTimeout = 10 * time.Minute

// build compiles a version's files in a sandbox without network. That they do
// not compile is in the reply; an error is for what may go elsewhere, or later.
func (a *Agent) build(ctx context.Context, in *wire.Build, say func(string)) (*wire.BuildReply, error) {
	files := make([]warpket.File, len(in.GetFiles()))
	for i, f := range in.GetFiles() {
		files[i] = warpket.File{Path: f.GetPath(), SHA256: f.GetSha256(), Size: f.GetSize()}
	}
	if err := warpket.CheckFiles(files); err != nil {
		return nil, err
	}
	env, err := a.install(ctx, in.GetRuntime(), say)
	if err != nil {
		return nil, err
	}
	defer env.Release()
	work, err := os.MkdirTemp(filepath.Join(a.config.Dir, "slots"), "build-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.Chmod(work, 0o755); err != nil { //nolint:gosec // the sandbox's user reads the files
		return nil, err
	}
	say("fetching files")
	code := filepath.Join(work, "code")
	if err := a.fetch(ctx, code, in.GetFiles(), 0o444); err != nil {
		return nil, err
	}
	say("compiling " + in.GetEntry())
	compiler := a.pool.CUDA(worker.CUDAConfig{
		Runtime: env, Code: code, Entry: in.GetEntry(), Architectures: in.GetArchitectures(), Scratch: filepath.Join(work, "scratch"), Resources: buildResources,
	})
	if err := compiler.Check(); err != nil {
		return nil, err
	}
	binary, log, failure := compiler.Build(ctx, buildTimeout)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case failure != nil && failure.Code == warpket.NotPrepared:
		return nil, warpket.Errorf(warpket.Unavailable, "%s", failure.Message)
	}
	return &wire.BuildReply{Log: log, Failure: failureOf(failure), Binary: binary}, nil
}
