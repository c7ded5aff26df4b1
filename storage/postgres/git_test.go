package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// hash is one for tests.
func hash(text string) string { return warpket.SHA256([]byte(text))[:40] }

// objectsOf are a commit and the blob of a version's file.
func objectsOf(commit string, v warpket.Version) []warpket.GitObject {
	file := v.Snapshot.Files[0]
	return []warpket.GitObject{
		{Hash: commit, Kind: "commit", Content: []byte("commit " + commit), Size: 47},
		{Hash: hash("empty tree"), Kind: "tree"},
		{Hash: hash(file.SHA256), Kind: "blob", SHA256: file.SHA256, Size: file.Size},
	}
}

func TestVersionsGetCommitsInTheirOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, first := w.addFunction(w.project, "bell")
	second, err := w.Publish(ctx, w.version(w.project, f.ID, "second"))
	w.must(err)

	missing, err := w.Uncommitted(ctx, w.project, f.ID, 10)
	w.must(err)
	if len(missing) != 2 || missing[0].Number != 1 || len(missing[0].Snapshot.Files) != 1 {
		t.Fatalf("without a commit are %+v", missing)
	}
	add := func(v warpket.Version, commit, parent string) error {
		return w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: v.Number, Hash: commit}, parent, objectsOf(commit, v))
	}
	w.must(add(first, hash("1"), ""))
	if err := add(second, hash("2"), ""); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("a second first commit: %v", err)
	}
	w.must(add(second, hash("2"), hash("1")))
	if missing, err := w.Uncommitted(ctx, w.project, f.ID, 10); err != nil || len(missing) != 0 {
		t.Errorf("afterwards %+v (%v)", missing, err)
	}
	commits, err := w.Commits(ctx, w.project, f.ID)
	w.must(err)
	if diff := cmp.Diff([]warpket.Commit{{Number: 1, Hash: hash("1")}, {Number: 2, Hash: hash("2")}}, commits); diff != "" {
		t.Error(diff)
	}
	sum := first.Snapshot.Files[0].SHA256
	known, err := w.BlobHashes(ctx, w.project, f.ID, []string{sum, hash("other")})
	w.must(err)
	if diff := cmp.Diff(map[string]string{sum: hash(sum)}, known); diff != "" {
		t.Error(diff)
	}
	objects, err := w.GitObjects(ctx, w.project, f.ID, []string{hash("1"), hash(sum), hash("other")})
	w.must(err)
	if len(objects) != 2 {
		t.Errorf("its objects are %+v", objects)
	}
}

func TestACommitIsPublishedOnlyAfterTheLastOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, first := w.addFunction(w.project, "bell")
	push := func(commit, parent string) (warpket.Version, error) {
		v := w.version(w.project, f.ID, commit)
		v.Snapshot.Source = &warpket.Source{Kind: warpket.SourcePush, Commit: commit}
		return w.PublishCommit(ctx, v, commit, parent, objectsOf(commit, v))
	}
	if _, err := push(hash("a"), ""); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("before the first version has a commit: %v", err)
	}
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: hash("1")}, "", objectsOf(hash("1"), first)))
	v, err := push(hash("2"), hash("1"))
	w.must(err)
	if diff := cmp.Diff(&warpket.Source{Kind: warpket.SourcePush, Commit: hash("2")}, v.Snapshot.Source); v.Number != 2 || diff != "" {
		t.Errorf("version %d: %s", v.Number, diff)
	}
	_, err = w.Publish(ctx, w.version(w.project, f.ID, "over HTTP"))
	w.must(err)
	if _, err := push(hash("3"), hash("2")); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("behind a version that has no commit yet: %v", err)
	}
	if n := w.count(`select count(*) from versions where function_id = $1`, f.ID); n != 3 {
		t.Errorf("there are %d versions", n)
	}
}

func TestOfThoseWhoPushAtOnceOneIsFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, first := w.addFunction(w.project, "bell")
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: hash("1")}, "", objectsOf(hash("1"), first)))
	var won, lost atomic.Int32
	var g sync.WaitGroup
	for i := range 8 {
		commit := hash(fmt.Sprint("pushed ", i))
		v := w.version(w.project, f.ID, commit)
		g.Go(func() {
			_, err := w.PublishCommit(ctx, v, commit, hash("1"), objectsOf(commit, v))
			switch {
			case err == nil:
				won.Add(1)
			case warpket.KindOf(err) == warpket.Conflict:
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	g.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Errorf("%d pushes won and %d lost", won.Load(), lost.Load())
	}
}

func TestAProjectSeesNothingOfAnothersRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, first := w.addFunction(w.project, "bell")
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: hash("1")}, "", objectsOf(hash("1"), first)))
	stranger := w.addProject("two")
	for name, count := range map[string]func() (int, error){
		"commits": func() (int, error) { l, err := w.Commits(ctx, stranger, f.ID); return len(l), err },
		"objects": func() (int, error) {
			l, err := w.GitObjects(ctx, stranger, f.ID, []string{hash("1")})
			return len(l), err
		},
		"uncommitted": func() (int, error) { l, err := w.Uncommitted(ctx, stranger, f.ID, 10); return len(l), err },
		"blobs": func() (int, error) {
			l, err := w.BlobHashes(ctx, stranger, f.ID, []string{first.Snapshot.Files[0].SHA256})
			return len(l), err
		},
	} {
		if n, err := count(); n != 0 || err != nil {
			t.Errorf("it sees %d %s (%v)", n, name, err)
		}
	}
	if err := w.AddCommit(ctx, stranger, f.ID, warpket.Commit{Number: 2, Hash: hash("2")}, hash("1"), nil); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("it adds a commit: %v", err)
	}
	v := w.version(stranger, f.ID, "theirs")
	if _, err := w.PublishCommit(ctx, v, hash("2"), hash("1"), nil); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("it pushes: %v", err)
	}
}

func TestHistoryKeepsWhatItIsMadeOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, first := w.addFunction(w.project, "bell")
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: hash("1")}, "", objectsOf(hash("1"), first)))
	w.exec(`delete from versions where function_id = $1`, f.ID)
	w.exec(`delete from snapshots where function_id = $1`, f.ID)
	w.exec(`update objects set touched_date = $1`, now().Add(-25*time.Hour))
	if removed := w.sweep(); len(removed) != 0 {
		t.Errorf("the sweep takes %+v", removed)
	}
	if commits, err := w.Commits(ctx, w.project, f.ID); err != nil || len(commits) != 1 || !commits[0].Gone {
		t.Errorf("its commits are %+v (%v)", commits, err)
	}
	_, err := w.DeleteFunction(ctx, w.project, f.ID, false)
	w.must(err)
	removed := 0
	_, err = w.SweepObjects(ctx, now(), func(context.Context, postgres.Object) error { removed++; return errors.ErrUnsupported })
	if removed != 1 || err == nil || !strings.Contains(err.Error(), "unsupported") {
		t.Errorf("without the function the sweep takes %d (%v)", removed, err)
	}
}

func TestHistoryThatIsPushedCountsWithWhatIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: "first"}, "", nil))
	stored := func() int64 {
		return int64(w.count(`select bytes from project_storage where project_id = $1`, w.project))
	}
	before := stored()
	const size = 1000
	push := func(hash, parent string) error {
		next := w.version(w.project, f.ID, "# bell") // an object that is there
		_, err := w.PublishCommit(ctx, next, hash, parent, []warpket.GitObject{
			{Hash: hash, Kind: "commit", Content: make([]byte, size), Size: size},
			{Hash: "blob", Kind: "blob", SHA256: v.Snapshot.Files[0].SHA256, Size: v.Snapshot.Files[0].Size},
		})
		return err
	}
	w.must(push("second", "first"))
	if got := stored() - before; got != size {
		t.Errorf("%d bytes more are stored", got)
	}
	w.limit(w.project, warpket.StorageLimit, before+size+10)
	wantKind(t, push("third", "second"), warpket.OverQuota)
	if n := w.count(`select count(*) from versions where function_id = $1`, f.ID); n != 2 || stored() != before+size {
		t.Errorf("there are %d versions, and %d bytes", n, stored())
	}
	_, err := w.DeleteFunction(ctx, w.project, f.ID, true)
	w.must(err)
	if got := stored(); got != before {
		t.Errorf("without the function %d bytes are stored", got)
	}
}
