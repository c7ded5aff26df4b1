package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// touch writes the row of an object.
func (w *world) touch(content string, at time.Time) postgres.Object {
	w.t.Helper()
	o := postgres.Object{ProjectID: w.project, SHA256: warpket.SHA256([]byte(content)), Size: int64(len(content))}
	w.must(w.TouchObjects(w.t.Context(), []postgres.Object{o, o}, at)) // twice in one list is harmless
	return o
}

// sweep removes what nothing refers to and tells what that was.
func (w *world) sweep() []postgres.Object {
	w.t.Helper()
	var removed []postgres.Object
	n, err := w.SweepObjects(w.t.Context(), now().Add(-24*time.Hour), func(_ context.Context, o postgres.Object) error {
		removed = append(removed, o)
		return nil
	})
	w.must(err)
	if n != len(removed) {
		w.t.Errorf("it says %d and removed %d", n, len(removed))
	}
	return removed
}

func TestTheSweepRemovesOnlyWhatIsOldAndUnreferenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := now().Add(-25 * time.Hour)
	f, v := w.addFunction(w.project, "bell")
	input, result, loose := w.touch("input", old), w.touch("result", old), w.touch("loose", old)
	w.touch("young", now())
	w.touch("touched again", old)
	w.touch("touched again", now())
	e := newExecution(f, v)
	e.Input = warpket.Payload{SHA256: input.SHA256, Size: input.Size}
	_, err := w.CreateExecution(t.Context(), e)
	w.must(err)
	w.claim(e, newSlot(w.addNode("n", inventory(4, 4)), v))
	_, err = w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Succeeded, Result: warpket.Payload{SHA256: result.SHA256, Size: result.Size}}, now())
	w.must(err)
	w.exec(`update objects set touched_date = $1 where sha256 = $2`, old, v.Snapshot.Files[0].SHA256)

	if removed := w.sweep(); !slices.Equal(removed, []postgres.Object{loose}) {
		t.Errorf("removed %+v, want %+v", removed, loose)
	}
	if removed := w.sweep(); len(removed) != 0 {
		t.Errorf("then removed %+v", removed)
	}
	if n := w.count(`select count(*) from objects`); n != 5 {
		t.Errorf("%d objects are left", n)
	}
	// With its function gone, a file's bytes are nobody's.
	_, err = w.DeleteFunction(t.Context(), w.project, f.ID, true)
	w.must(err)
	if removed := w.sweep(); len(removed) != 1 || removed[0].SHA256 != v.Snapshot.Files[0].SHA256 {
		t.Errorf("removed %+v", removed)
	}
}

func TestTheSweepTakesAHundredAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 120 {
		w.touch(fmt.Sprint(i), now().Add(-48*time.Hour))
	}
	if n := len(w.sweep()) + 1000*len(w.sweep()); n != 20_100 {
		t.Errorf("it took %d and then %d", n%1000, n/1000)
	}
}

func TestASweepThatFailsKeepsTheRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.touch("a", now().Add(-48*time.Hour))
	down := errors.New("the object store is down")
	n, err := w.SweepObjects(t.Context(), now(), func(context.Context, postgres.Object) error { return down })
	if n != 0 || !errors.Is(err, down) {
		t.Errorf("removed %d (%v)", n, err)
	}
	if n := w.count(`select count(*) from objects`); n != 1 {
		t.Error("the row is gone, the object is not")
	}
}

func TestATouchDuringTheSweepComesAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.touch("a", now().Add(-48*time.Hour))
	touched := make(chan error, 1)
	removedFirst := false
	_, err := w.SweepObjects(t.Context(), now(), func(context.Context, postgres.Object) error {
		go func() { touched <- w.TouchObjects(t.Context(), []postgres.Object{o}, now()) }()
		// It has to wait for us: let it come as far as it gets.
		for w.count(`select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`) == 0 {
			select {
			case err := <-touched:
				t.Errorf("it did not wait (%v)", err)
				touched <- err
				return nil
			case <-time.After(5 * time.Millisecond):
			}
		}
		removedFirst = true
		return nil
	})
	w.must(err)
	w.must(<-touched)
	if !removedFirst || w.count(`select count(*) from objects`) != 1 {
		t.Error("whoever stores the bytes again has no row")
	}
}

func TestSweepsAndTouchesAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const objects = 30
	var list []postgres.Object
	for i := range objects {
		list = append(list, w.touch(fmt.Sprint(i), now().Add(-48*time.Hour)))
	}
	f, _ := w.addFunction(w.project, "bell")
	var removed counter
	race(8, func(i int) {
		var err error
		switch i % 4 {
		case 0, 1:
			_, err = w.SweepObjects(t.Context(), now().Add(-24*time.Hour), func(_ context.Context, o postgres.Object) error {
				removed.add(o.SHA256)
				return nil
			})
			if warpket.KindOf(err) == warpket.Conflict {
				err = nil // a reference came first: nothing was removed
			}
		case 2:
			reversed := slices.Clone(list)
			slices.Reverse(reversed)
			err = w.TouchObjects(t.Context(), reversed, now())
		case 3:
			v := w.version(w.project, f.ID, fmt.Sprint(i))
			_, err = w.Publish(t.Context(), v)
		}
		if err != nil {
			t.Error(err)
		}
	})
	// What was touched is there; what was removed was removed once before that.
	if n := w.count(`select count(*) from objects where sha256 = any ($1)`, hashes(list)); n != objects {
		t.Errorf("%d of %d are there", n, objects)
	}
	for sum, n := range removed.n {
		if n != 1 {
			t.Errorf("%s was removed %d times", sum, n)
		}
	}
	if n := w.count(`select count(*) from files f where not exists (select from objects o where o.project_id = f.project_id and o.sha256 = f.sha256)`); n != 0 {
		t.Errorf("%d files have no object", n)
	}
}

func hashes(list []postgres.Object) []string {
	var sums []string
	for _, o := range list {
		sums = append(sums, o.SHA256)
	}
	return sums
}
