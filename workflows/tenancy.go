package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// countUsage moves what was used into its hours.
func (f *Fleet) countUsage(ctx context.Context) error {
	for more := true; more; { // what comes in meanwhile is left to the next time
		var err error
		if more, err = f.Activities.Store.CountUsage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// purgeProjects takes projects apart that were deleted, as far as that goes now.
// What still runs, or holds a slot on a node that is silent, is waited for.
func (f *Fleet) purgeProjects(ctx context.Context) error {
	projects, err := f.Activities.Store.DeletedProjects(ctx)
	if err != nil {
		return err
	}
	var failed []error // one that cannot be taken apart now holds up no other
	for _, id := range projects {
		if err := f.purgeProject(ctx, id); err != nil {
			failed = append(failed, fmt.Errorf("project %s: %w", id, err))
		}
	}
	return errors.Join(failed...)
}

func (f *Fleet) purgeProject(ctx context.Context, id warpket.ID) error {
	a := f.Activities
	for {
		functions, err := a.Store.ProjectFunctions(ctx, id)
		if err != nil {
			return err
		}
		if len(functions) == 0 {
			break
		}
		for _, function := range functions {
			left, err := a.Store.DeleteFunction(ctx, id, function, true)
			if warpket.KindOf(err) == warpket.NotFound {
				continue // another server is at it, too
			}
			if err != nil {
				return err
			}
			f.releaseSoon(ctx, id, left)
		}
	}
	done, err := a.Store.PurgeProject(ctx, id, func(ctx context.Context, o postgres.Object) error {
		return a.Blobs.Remove(ctx, o.ProjectID, o.SHA256)
	})
	if done {
		a.Log.Info("took a deleted project apart", "project", id)
	}
	return err
}

// releaseSoon is ReleaseAll, but one that is slow to end holds up no other
// project: the sweeper of orphaned slots goes on with it.
func (f *Fleet) releaseSoon(ctx context.Context, project warpket.ID, left postgres.Deleted) {
	ctx, cancel := context.WithTimeout(ctx, purgeInterval)
	defer cancel()
	f.ReleaseAll(ctx, project, left)
}

// forgetActs drops what is older in the audit than it is kept for.
func (f *Fleet) forgetActs(ctx context.Context) error {
	if f.KeepAudit == 0 {
		return nil
	}
	for {
		n, err := f.Activities.Store.ForgetActs(ctx, f.Activities.Now().Add(-f.KeepAudit))
		if err != nil || n == 0 {
			return err
		}
	}
}

// Intervals of what a server does for all projects.
const (
	usageInterval = time.Minute
	purgeInterval = 30 * time.Second
)
