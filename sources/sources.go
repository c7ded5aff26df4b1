package sources

import (
	"context"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/git"
)

// Fetcher fetches code from elsewhere.
type Fetcher struct {
	Repositories git.Fetcher
	Objects      Objects
}

// Git gives the files that a repository has now at the ref and path of a
// source, and the source with the commit.
func (f Fetcher) Git(ctx context.Context, from warpket.Source, auth warpket.RegistryAuth) ([]File, warpket.Source, error) {
	files, commit, err := f.Repositories.Fetch(ctx, from, auth)
	from.Commit = commit
	return files, from, err
}

// Object gives the files that an object has now, and the source with its
// checksums.
func (f Fetcher) Object(ctx context.Context, from warpket.Source, auth *warpket.ObjectAuth) ([]File, warpket.Source, error) {
	return f.Objects.Fetch(ctx, from, auth)
}
