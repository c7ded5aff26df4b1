package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestAnExecutionComesBackAsItWasCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.addExecution(f, v)
	got, err := w.Execution(t.Context(), w.project, e.ID)
	w.must(err)
	e.Status = warpket.Queued
	if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	list, _, err := w.Executions(t.Context(), w.project, postgres.ExecutionFilter{}, postgres.Page{Limit: 10})
	w.must(err)
	e.Input.Inline = nil // lists go without
	if diff := cmp.Diff([]warpket.Execution{e}, list, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestCreatingAnExecutionAgainDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := newExecution(f, v)
	var created counter
	race(10, func(int) {
		c, err := w.CreateExecution(t.Context(), e)
		if err != nil {
			t.Error(err)
		}
		if c {
			created.add("created")
		}
	})
	if created.n["created"] != 1 {
		t.Errorf("%d of 10 created it", created.n["created"])
	}
	slot := w.lease(newSlot(w.addNode("n", inventory(4, 4)), v))
	w.claim(e, slot)
	if c, err := w.CreateExecution(t.Context(), e); c || err != nil {
		t.Errorf("it was created once more (%v)", err)
	}
	if e := w.execution(e.ID); e.Status != warpket.Running {
		t.Errorf("it is %s", e.Status)
	}
	if n := w.count(`select count(*) from outbox`); n != 1 {
		t.Errorf("there are %d promises: one is to stay until the workflow has started, or is no longer needed", n)
	}
}

func TestAnExecutionIsPromisedItsWorkflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	kept, left := w.addExecution(f, v), w.addExecution(f, v)
	w.must(w.Kept(t.Context(), postgres.Promise{Kind: "execute", SubjectID: kept.ID}))
	if p, err := w.Overdue(t.Context()); len(p) != 0 || err != nil {
		t.Errorf("a promise of this moment is overdue: %v (%v)", p, err)
	}
	w.exec(`update outbox set created_date = created_date - interval '6 seconds'`)
	p, err := w.Overdue(t.Context())
	w.must(err)
	want := []postgres.Promise{{Kind: "execute", SubjectID: left.ID}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	open, err := w.OpenExecutions(t.Context(), "")
	w.must(err)
	if len(open) != 2 {
		t.Errorf("open are %v", open)
	}
	after, err := w.OpenExecutions(t.Context(), open[0])
	w.must(err)
	if !slices.Equal(after, open[1:]) {
		t.Errorf("after the first come %v", after)
	}
}

func TestAnExecutionMayBeginAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := w.lease(newSlot(w.addNode("n", inventory(4, 4)), v))
	e := newExecution(f, v)
	began := now()
	e.Status, e.Attempt, e.StartedDate = warpket.Running, 1, &began
	e.NodeID, e.NodeName, e.SlotID, e.Generation, e.Reason = slot.NodeID, "n", slot.ID, slot.Generation, slot.Reason
	created, err := w.CreateExecution(t.Context(), e)
	w.must(err)
	if diff := cmp.Diff(e, w.execution(e.ID), cmpopts.EquateEmpty()); diff != "" || !created {
		t.Errorf("created %v: %s", created, diff)
	}
	if n := w.count(`select count(*) from outbox where subject_id = $1`, e.ID); n != 1 {
		t.Error("no workflow is promised, and nobody would see it through")
	}
	if _, claimed, err := w.ClaimExecution(t.Context(), e.ID, slot, "n", newID(), now()); claimed || err != nil {
		t.Errorf("it was claimed once more (%v)", err)
	}
}

func TestOneClaimOfManyWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(64, 64))
	e := w.addExecution(f, v)
	var winners counter
	race(20, func(int) {
		slot := newSlot(node, v)
		got, claimed, err := w.ClaimExecution(t.Context(), e.ID, slot, "n", newID(), now())
		switch {
		case err != nil:
			t.Error(err)
		case claimed && (got.SlotID != slot.ID || got.Attempt != 1 || got.StartedDate == nil):
			t.Errorf("the winner got %+v", got)
		case claimed:
			winners.add("won")
		case got.Status != warpket.Running || got.SlotID == slot.ID:
			t.Errorf("a loser got %+v", got)
		}
	})
	if winners.n["won"] != 1 {
		t.Errorf("%d claims won", winners.n["won"])
	}
	_, _, err := w.ClaimExecution(t.Context(), newID(), newSlot(node, v), "n", newID(), now())
	wantKind(t, err, warpket.NotFound)
}

func TestAClaimThatIsGivenBackDoesNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := newSlot(w.addNode("n", inventory(4, 4)), v)
	e := w.claim(w.addExecution(f, v), slot)
	w.must(w.UnclaimExecution(t.Context(), e.ID, e.Attempt+1, e.Generation, warpket.Failure{}))
	if e := w.execution(e.ID); e.Status != warpket.Running {
		t.Error("another attempt gave it back")
	}
	for range 2 {
		w.must(w.UnclaimExecution(t.Context(), e.ID, e.Attempt, e.Generation, warpket.Failure{}))
	}
	e = w.execution(e.ID)
	if e.Status != warpket.Queued || e.Attempt != 0 || e.NodeID != "" || e.SlotID != "" || e.StartedDate != nil {
		t.Errorf("it is %+v", e)
	}
	if e = w.claim(e, slot); e.Attempt != 1 {
		t.Errorf("the next attempt is number %d", e.Attempt)
	}
	// Someone has asked for its end meanwhile: it does not wait again.
	_, err := w.AskCancel(t.Context(), w.project, e.ID, warpket.Failure{Code: warpket.CancelledCode}, now())
	w.must(err)
	w.must(w.UnclaimExecution(t.Context(), e.ID, e.Attempt, e.Generation, warpket.Failure{}))
	if e = w.execution(e.ID); e.Status != warpket.Cancelled || e.FinishedDate == nil {
		t.Errorf("it is %+v", e)
	}
}

func TestTheFirstFinalStatusWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.claim(w.addExecution(f, v), newSlot(w.addNode("n", inventory(4, 4)), v))
	final := []warpket.Status{warpket.Succeeded, warpket.Failed, warpket.Cancelled, warpket.TimedOut, warpket.Lost}
	winner := make(chan warpket.Status, 20)
	race(20, func(i int) {
		status := final[i%len(final)]
		finished, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: status, LogSize: int64(i)}, now())
		if err != nil {
			t.Error(err)
		}
		if finished {
			winner <- status
		}
	})
	close(winner)
	won := <-winner
	if _, two := <-winner; two || won == "" {
		t.Error("not exactly one finished it")
	}
	if got := w.execution(e.ID); got.Status != won || got.FinishedDate == nil {
		t.Errorf("it is %s, and %s won", got.Status, won)
	}
}

func TestAnEarlierAttemptCannotFinishALaterOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := newSlot(w.addNode("n", inventory(4, 4)), v)
	e := w.claim(w.addExecution(f, v), slot)
	finished, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Failed, Again: true}, now())
	if finished || err != nil {
		t.Errorf("what is tried again is not finished (%v)", err)
	}
	e = w.execution(e.ID)
	if e.Status != warpket.Queued || e.Attempt != 1 || e.NodeID != "" || e.NodeName != "" || e.SlotID != "" || e.StartedDate != nil || e.Error != nil {
		t.Errorf("it waits as %+v", e)
	}
	if e = w.claim(e, slot); e.Attempt != 2 {
		t.Fatalf("the next attempt is number %d", e.Attempt)
	}
	for _, again := range []bool{false, true} {
		finished, err = w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Lost, Again: again}, now())
		if finished || err != nil {
			t.Errorf("the first attempt finished the second (%v)", err)
		}
	}
	if e = w.execution(e.ID); e.Status != warpket.Running {
		t.Errorf("it is %s", e.Status)
	}
}

func TestWhatIsToBeCancelledIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.claim(w.addExecution(f, v), newSlot(w.addNode("n", inventory(4, 4)), v))
	got, err := w.AskCancel(t.Context(), w.project, e.ID, warpket.Failure{}, now())
	w.must(err)
	if got.Status != warpket.Running || !got.CancelAsked {
		t.Errorf("it is %+v", got)
	}
	failure := &warpket.Failure{Code: warpket.Raised, Message: "no"}
	finished, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Failed, Error: failure, Again: true}, now())
	w.must(err)
	if got := w.execution(e.ID); !finished || got.Status != warpket.Failed || !cmp.Equal(got.Error, failure) {
		t.Errorf("finished %v: %+v", finished, got)
	}
}

func TestFinishingKeepsTheOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.claim(w.addExecution(f, v), newSlot(w.addNode("n", inventory(4, 4)), v))
	large := warpket.SHA256([]byte("a large result"))
	finish := postgres.Finish{
		ID: e.ID, Attempt: 1, Status: warpket.Failed, Result: warpket.Payload{SHA256: large, Size: 1 << 20},
		Error: &warpket.Failure{Code: warpket.Raised, Message: "division by zero", Traceback: "line 1\nline 2"},
		Log:   warpket.Payload{Inline: []byte("hello\x00\xff"), Size: 7}, LogSize: 7,
		Timings: warpket.Timings{Queued: 1, Placed: 2, Started: 3, Ran: 4, Recorded: 5, Total: 15},
		Usage:   warpket.Usage{CPU: time.Second, PeakMemory: 1 << 20}, Isolation: "namespaces",
	}
	_, err := w.FinishExecution(t.Context(), finish, now())
	wantKind(t, err, warpket.Conflict) // its object has no row: nothing is written
	if got := w.execution(e.ID); got.Status != warpket.Running {
		t.Fatalf("it is %s", got.Status)
	}

	w.must(w.TouchObjects(t.Context(), []postgres.Object{{ProjectID: w.project, SHA256: large, Size: 1 << 20}}, now()))
	if finished, err := w.FinishExecution(t.Context(), finish, now()); !finished || err != nil {
		t.Fatalf("not finished (%v)", err)
	}
	got := w.execution(e.ID)
	finish.Log.Size = 0 // LogSize says it
	if diff := cmp.Diff([]any{finish.Status, finish.Result, finish.Error, finish.Log, finish.LogSize, finish.Timings, finish.Usage, finish.Isolation}, []any{got.Status, got.Result, got.Error, got.Log, got.LogSize, got.Timings, got.Usage, got.Isolation}); diff != "" {
		t.Error(diff)
	}
	if got.CreatedDate.After(*got.StartedDate) || got.StartedDate.After(*got.FinishedDate) {
		t.Errorf("created %s, started %s, finished %s", got.CreatedDate, got.StartedDate, got.FinishedDate)
	}

	// A loser's object is not held for ever.
	other := warpket.SHA256([]byte("another result"))
	w.must(w.TouchObjects(t.Context(), []postgres.Object{{ProjectID: w.project, SHA256: other}}, now()))
	finish.Result.SHA256 = other
	if finished, err := w.FinishExecution(t.Context(), finish, now()); finished || err != nil {
		t.Errorf("finished twice (%v)", err)
	}
	if n := w.count(`select count(*) from execution_objects where sha256 = $1`, other); n != 0 {
		t.Error("the loser's object is held")
	}
}

// asExpress makes an execution an express one that a server drives.
func asExpress(e warpket.Execution, server warpket.ID) warpket.Execution {
	e.Lane, e.ServerID = warpket.Express, server
	return e
}

func TestAnExpressExecutionHasNoPromise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := asExpress(newExecution(f, v), newID())
	for _, want := range []bool{true, false} {
		if created, err := w.CreateExecution(t.Context(), e); created != want || err != nil {
			t.Errorf("created %v (%v)", created, err)
		}
	}
	if diff := cmp.Diff(e, w.execution(e.ID), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if n := w.count(`select count(*) from outbox`); n != 0 {
		t.Errorf("there are %d promises of workflows", n)
	}
	if open, err := w.OpenExecutions(t.Context(), ""); len(open) != 0 || err != nil {
		t.Errorf("workflows are to be started for %v (%v)", open, err)
	}
	w.conn(func(conn *pgx.Conn) { // the setting is for that one statement
		var setting string
		w.must(conn.QueryRow(t.Context(), `show synchronous_commit`).Scan(&setting))
		if setting != "on" {
			t.Errorf("commits are now %s", setting)
		}
	})
}

func TestExpressExecutionsOfAServerThatIsGoneAreTakenOverOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	alive, dead := newID(), newID()
	_, err := w.RenewServer(t.Context(), postgres.Server{ID: alive, Channel: "alive:1"})
	w.must(err)
	add := func(e warpket.Execution) warpket.ID {
		_, err := w.CreateExecution(t.Context(), e)
		w.must(err)
		return e.ID
	}
	add(newExecution(f, v)) // durable: Temporal's
	add(asExpress(newExecution(f, v), alive))
	var left []warpket.ID
	for range 5 {
		left = append(left, add(asExpress(newExecution(f, v), dead)))
	}
	var taken counter
	race(4, func(int) {
		server := newID()
		_, err := w.RenewServer(t.Context(), postgres.Server{ID: server, Channel: "other:1"})
		if err != nil {
			t.Error(err)
		}
		got, err := w.TakeOver(t.Context(), server, "")
		if err != nil {
			t.Error(err)
		}
		for _, e := range got {
			taken.add(string(e.ID))
			if e.ServerID != server {
				t.Errorf("%s is still that of %s", e.ID, e.ServerID)
			}
		}
	})
	for _, id := range left {
		if taken.n[string(id)] != 1 {
			t.Errorf("%s was taken %d times", id, taken.n[string(id)])
		}
	}
	if len(taken.n) != len(left) {
		t.Errorf("taken were %v", taken.n)
	}
}

func TestAServerFindsItsOwnOldExpressExecutions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	server := newID()
	_, err := w.RenewServer(t.Context(), postgres.Server{ID: server, Channel: "alive:1"})
	w.must(err)
	young, old := asExpress(newExecution(f, v), server), asExpress(newExecution(f, v), server)
	old.CreatedDate = now().Add(-2 * time.Minute)
	for _, e := range []warpket.Execution{young, old} {
		_, err := w.CreateExecution(t.Context(), e)
		w.must(err)
	}
	got, err := w.TakeOver(t.Context(), server, "")
	if err != nil || len(got) != 1 || got[0].ID != old.ID {
		t.Errorf("found %v (%v)", got, err)
	}
	if got, err := w.TakeOver(t.Context(), server, got[0].ID); len(got) != 0 || err != nil {
		t.Errorf("after it come %v (%v)", got, err)
	}
}

func TestAllServersAreToldOfTheEndOfAWatchedExecution(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := newSlot(w.addNode("n", inventory(4, 4)), v)
	unwatched, cancelled, finished := w.claim(w.addExecution(f, v), slot), w.claim(w.addExecution(f, v), slot), w.claim(w.addExecution(f, v), slot)
	heard, ready := make(chan warpket.ID, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	listening.Go(func() {
		_ = w.Listen(ctx, func() { close(ready) }, func(topic postgres.Topic, id warpket.ID) {
			if topic == postgres.ExecutionWoken {
				heard <- id
			}
		})
	})
	defer func() { cancel(); listening.Wait() }()
	<-ready
	for _, e := range []warpket.Execution{cancelled, finished} {
		w.must(w.WatchExecution(t.Context(), e.ID))
	}
	_, err := w.AskCancel(t.Context(), w.project, cancelled.ID, warpket.Failure{}, now())
	w.must(err)
	for _, e := range []warpket.Execution{unwatched, finished} {
		_, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Succeeded}, now())
		w.must(err)
	}
	w.must(w.UnclaimExecution(t.Context(), cancelled.ID, 1, slot.Generation, warpket.Failure{Code: warpket.CancelledCode}))
	for _, want := range []warpket.ID{finished.ID, cancelled.ID} {
		if got := <-heard; got != want {
			t.Errorf("heard of %s, not of %s", got, want)
		}
	}
}

func TestACancelAndAClaimAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := newSlot(w.addNode("n", inventory(4, 4)), v)
	for range 20 {
		e := w.addExecution(f, v)
		var claimed bool
		var asked warpket.Execution
		race(2, func(i int) {
			var err error
			if i == 0 {
				_, claimed, err = w.ClaimExecution(t.Context(), e.ID, slot, "n", newID(), now())
			} else {
				asked, err = w.AskCancel(t.Context(), w.project, e.ID, warpket.Failure{Code: warpket.CancelledCode}, now())
			}
			if err != nil {
				t.Error(err)
			}
		})
		e = w.execution(e.ID)
		want := warpket.Cancelled
		if claimed {
			want = warpket.Running
		}
		if e.Status != want || asked.Status != want || !e.CancelAsked || (e.Error == nil) != claimed {
			t.Errorf("claimed %v, asked %s: it is %+v", claimed, asked.Status, e)
		}
	}
}

func TestCancellingWhatIsFinalChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.claim(w.addExecution(f, v), newSlot(w.addNode("n", inventory(4, 4)), v))
	_, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Succeeded}, now())
	w.must(err)
	before := w.execution(e.ID)
	got, err := w.AskCancel(t.Context(), w.project, e.ID, warpket.Failure{Code: warpket.CancelledCode}, now())
	w.must(err)
	if diff := cmp.Diff(before, got); diff != "" {
		t.Error(diff)
	}
}

func TestWaitHereSaysWhereItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := w.addExecution(f, v)
	elsewhere := newID()
	got, err := w.WaitHere(t.Context(), e.ID, elsewhere)
	w.must(err)
	if got.Status != warpket.Queued {
		t.Errorf("it is %s", got.Status)
	}
	if got := w.execution(e.ID); got.ServerID != elsewhere {
		t.Errorf("it waits in %s", got.ServerID)
	}
	if n := w.count(`select count(*) from outbox`); n != 0 {
		t.Error("its workflow is there, and promised all the same")
	}
	_, err = w.WaitHere(t.Context(), newID(), elsewhere)
	wantKind(t, err, warpket.NotFound)
}

func TestExecutionsAreFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	g, gv := w.addFunction(w.project, "other")
	start := now().Add(-time.Hour)
	var ids []warpket.ID
	for i := range 4 {
		e := newExecution(f, v)
		if i == 3 {
			e = newExecution(g, gv)
		}
		if i == 2 {
			e.VersionNumber, e.Target, e.Description, e.Tags, e.RetryOf = 2, warpket.GPU, "nightly run", []string{"a", "b", "c"}, ids[0]
		}
		if i == 0 {
			e.Lane = warpket.Express
		}
		e.CreatedDate = start.Add(time.Duration(i) * time.Minute)
		e.ID = warpket.NewID(start.Add(time.Duration(i) * time.Minute))
		_, err := w.CreateExecution(t.Context(), e)
		w.must(err)
		ids = append(ids, e.ID)
	}
	_, err := w.AskCancel(t.Context(), w.project, ids[1], warpket.Failure{}, now())
	w.must(err)
	tests := map[string]struct {
		filter postgres.ExecutionFilter
		want   []warpket.ID
	}{
		"all, newest first":   {postgres.ExecutionFilter{}, []warpket.ID{ids[3], ids[2], ids[1], ids[0]}},
		"those of a function": {postgres.ExecutionFilter{FunctionID: f.ID}, []warpket.ID{ids[2], ids[1], ids[0]}},
		"those of a version":  {postgres.ExecutionFilter{FunctionID: f.ID, Version: is(warpket.Eq, "2")}, []warpket.ID{ids[2]}},
		"those of a status":   {postgres.ExecutionFilter{Statuses: []warpket.Status{warpket.Cancelled}}, []warpket.ID{ids[1]}},
		"those of a time":     {postgres.ExecutionFilter{Since: start.Add(time.Minute), Until: start.Add(3 * time.Minute)}, []warpket.ID{ids[2], ids[1]}},
		"none":                {postgres.ExecutionFilter{FunctionID: newID()}, nil},

		"those of a function and status": {postgres.ExecutionFilter{FunctionID: f.ID, Statuses: []warpket.Status{warpket.Cancelled}}, []warpket.ID{ids[1]}},
		"those of another with it":       {postgres.ExecutionFilter{FunctionID: g.ID, Statuses: []warpket.Status{warpket.Cancelled}}, nil},
		"those of two statuses":          {postgres.ExecutionFilter{Statuses: []warpket.Status{warpket.Cancelled, warpket.Queued}}, []warpket.ID{ids[3], ids[2], ids[1], ids[0]}},
		"two statuses and a version":     {postgres.ExecutionFilter{Statuses: []warpket.Status{warpket.Cancelled, warpket.Queued}, Version: is(warpket.Lt, "2")}, []warpket.ID{ids[3], ids[1], ids[0]}},
		"all statuses but one":           {postgres.ExecutionFilter{Statuses: []warpket.Status{warpket.Running, warpket.Succeeded, warpket.Cancelled}}, []warpket.ID{ids[1]}},
		"no status":                      {postgres.ExecutionFilter{Statuses: []warpket.Status{}}, nil},
		"one of two versions":            {postgres.ExecutionFilter{Version: is(warpket.In, "2", "3")}, []warpket.ID{ids[2]}},
		"another version":                {postgres.ExecutionFilter{Version: is(warpket.Neq, "1")}, []warpket.ID{ids[2]}},
		"what has succeeded":             {postgres.ExecutionFilter{Statuses: []warpket.Status{warpket.Succeeded}}, nil},
		"those of any function's second": {postgres.ExecutionFilter{Version: is(warpket.Eq, "2")}, []warpket.ID{ids[2]}},
		"a lane":                         {postgres.ExecutionFilter{Lane: warpket.Express}, []warpket.ID{ids[0]}},
		"a target":                       {postgres.ExecutionFilter{Target: warpket.GPU}, []warpket.ID{ids[2]}},
		"a repetition":                   {postgres.ExecutionFilter{RetryOf: ids[0]}, []warpket.ID{ids[2]}},
		"tags":                           {postgres.ExecutionFilter{Tags: []string{"c", "a"}}, []warpket.ID{ids[2]}},
		"description eq":                 {postgres.ExecutionFilter{Description: is(warpket.Eq, "nightly run")}, []warpket.ID{ids[2]}},
		"description neq":                {postgres.ExecutionFilter{Description: is(warpket.Neq, "")}, []warpket.ID{ids[2]}},
		"description in":                 {postgres.ExecutionFilter{Description: is(warpket.In, "nightly run", "x")}, []warpket.ID{ids[2]}},
		"description has":                {postgres.ExecutionFilter{Description: is(warpket.Has, "ly r")}, []warpket.ID{ids[2]}},
		"created gt":                     {postgres.ExecutionFilter{CreatedDate: is(warpket.Gt, start.Add(2*time.Minute).Format(time.RFC3339Nano))}, []warpket.ID{ids[3]}},
		"created gte":                    {postgres.ExecutionFilter{CreatedDate: is(warpket.Gte, start.Add(2*time.Minute).Format(time.RFC3339Nano))}, []warpket.ID{ids[3], ids[2]}},
		"created lt":                     {postgres.ExecutionFilter{CreatedDate: is(warpket.Lt, start.Add(time.Minute).Format(time.RFC3339Nano))}, []warpket.ID{ids[0]}},
		"created eq":                     {postgres.ExecutionFilter{CreatedDate: is(warpket.Eq, start.Add(time.Minute).Format(time.RFC3339Nano))}, []warpket.ID{ids[1]}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, next, err := w.Executions(t.Context(), w.project, test.filter, postgres.Page{Limit: 10})
			var got []warpket.ID
			for _, e := range list {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, test.want) || next != "" || err != nil {
				t.Errorf("got %v, next %q (%v)", got, next, err)
			}
		})
	}
}

func is(op warpket.Op, values ...string) warpket.Condition {
	return warpket.Condition{Op: op, Values: values}
}

func TestAFilterThatFewFitLooksAtSoManyForAPageAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	old := w.addExecution(f, v)
	w.exec(`insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags, input_size, shots, seed, resources, retries, status, created_date)
		select (left(id::text, 13) || '-7fff-bfff-' || lpad(to_hex(i), 12, '0'))::uuid, project_id, function_id, function_name, 2, snapshot_id, runtime_id, lane, target, 'new', tags, input_size, shots, seed, resources, retries, 'succeeded', created_date
		from executions, generate_series(1, $2) i where id = $1::uuid`, old.ID, postgres.MaxLooked+10)
	filter := postgres.ExecutionFilter{Description: is(warpket.Neq, "new")}
	items, next, err := w.Executions(t.Context(), w.project, filter, postgres.Page{Limit: 10})
	if err != nil || len(items) != 0 || next == "" {
		t.Fatalf("the first page has %d, next %q, %v", len(items), next, err)
	}
	items, next, err = w.Executions(t.Context(), w.project, filter, postgres.Page{Limit: 10, Cursor: next})
	if err != nil || len(items) != 1 || items[0].ID != old.ID || next != "" {
		t.Fatalf("the second page has %d, next %q, %v", len(items), next, err)
	}
}

func TestAFinalExecutionIsDeletedWithWhatItHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := newExecution(f, v)
	sum := warpket.SHA256([]byte("input"))
	w.must(w.TouchObjects(t.Context(), []postgres.Object{{ProjectID: w.project, SHA256: sum, Size: 5}}, now()))
	e.Input = warpket.Payload{SHA256: sum, Size: 5}
	_, err := w.CreateExecution(t.Context(), e)
	w.must(err)
	if err := w.DeleteExecution(t.Context(), w.project, e.ID); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("while it is open: %v", err)
	}
	_, err = w.AskCancel(t.Context(), w.project, e.ID, warpket.Failure{}, now())
	w.must(err)
	if err := w.DeleteExecution(t.Context(), w.addProject("two"), e.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("by another project: %v", err)
	}
	w.must(w.DeleteExecution(t.Context(), w.project, e.ID))
	if _, err := w.ExecutionByID(t.Context(), e.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("it is there: %v", err)
	}
	if n := w.count(`select (select count(*) from execution_objects) + (select count(*) from outbox)`); n != 0 {
		t.Errorf("it has left %d rows", n)
	}
}

func TestTheEndOfAnExecutionPromisesItsCallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(4, 4))
	called := func() warpket.Execution {
		e := newExecution(f, v)
		e.Callback = &warpket.Callback{URL: "https://example.com", Secret: "KEY", Status: warpket.CallbackPending}
		_, err := w.CreateExecution(t.Context(), e)
		w.must(err)
		return e
	}
	promised := func(e warpket.Execution) bool {
		return w.count(`select count(*) from outbox where kind = 'callback' and subject_id = $1`, e.ID) == 1
	}
	cancelled := called()
	if promised(cancelled) {
		t.Error("it is promised before the end")
	}
	_, err := w.AskCancel(t.Context(), w.project, cancelled.ID, warpket.Failure{}, now())
	w.must(err)
	unclaimed := called()
	slot := w.lease(newSlot(node, v))
	running := w.claim(unclaimed, slot)
	_, err = w.AskCancel(t.Context(), w.project, unclaimed.ID, warpket.Failure{}, now())
	w.must(err)
	if promised(unclaimed) {
		t.Error("it is promised while it runs")
	}
	w.must(w.UnclaimExecution(t.Context(), running.ID, running.Attempt, running.Generation, warpket.Failure{}))
	finished := w.claim(called(), slot)
	_, err = w.FinishExecution(t.Context(), postgres.Finish{ID: finished.ID, Lane: finished.Lane, Attempt: 1, Status: warpket.Failed, Callback: true}, now())
	w.must(err)
	for name, e := range map[string]warpket.Execution{"cancelled": cancelled, "unclaimed": unclaimed, "finished": finished} {
		if got := w.execution(e.ID); !promised(e) || !got.Status.Final() || got.Callback.URL != "https://example.com" {
			t.Errorf("%s: %+v, promised %t", name, got, promised(e))
		}
	}
	other := w.addExecution(f, v)
	_, err = w.AskCancel(t.Context(), w.project, other.ID, warpket.Failure{}, now())
	w.must(err)
	if promised(other) {
		t.Error("one is promised that nobody asked for")
	}

	w.must(w.ChangeCallback(t.Context(), finished.ID, func(c *warpket.Callback) { c.Attempted("the server answered 503", now()) }))
	if got := w.execution(finished.ID).Callback; got.Status != warpket.CallbackPending || got.Attempts != 1 || got.LastError == "" || !promised(finished) {
		t.Errorf("after an attempt: %+v", got)
	}
	w.must(w.PutOff(t.Context(), postgres.Promise{Kind: "callback", SubjectID: finished.ID}))
	w.exec(`update outbox set created_date = created_date - interval '1 minute'`)
	due, err := w.Overdue(t.Context())
	w.must(err)
	for _, p := range due {
		if p.SubjectID == finished.ID {
			t.Error("a promise that was put off is due")
		}
	}
	w.must(w.ChangeCallback(t.Context(), finished.ID, func(c *warpket.Callback) { c.Attempted("", now()) }))
	w.must(w.ChangeCallback(t.Context(), finished.ID, func(c *warpket.Callback) { c.Attempted("again", now()) }))
	if got := w.execution(finished.ID).Callback; got.Status != warpket.CallbackDelivered || got.Attempts != 2 || got.LastError != "" || promised(finished) {
		t.Errorf("after delivery: %+v", got)
	}
}

func TestExecutionsBeyondTheirRetentionGoByWholeMonths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	sum := warpket.SHA256([]byte("input"))
	w.must(w.TouchObjects(t.Context(), []postgres.Object{{ProjectID: w.project, SHA256: sum, Size: 5}}, now()))
	w.exec(fmt.Sprintf(`create table executions_202001 partition of executions for values from ('%s') to ('%s')`,
		warpket.FirstIDAt(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)), warpket.FirstIDAt(time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC))))
	old := newExecution(f, v)
	old.ID, old.Input = warpket.NewID(time.Date(2020, 1, 15, 0, 0, 0, 0, time.UTC)), warpket.Payload{SHA256: sum, Size: 5}
	_, err := w.CreateExecution(t.Context(), old)
	w.must(err)
	young := w.addExecution(f, v)
	drop := func(before time.Time) {
		t.Helper()
		w.must(w.DropExecutions(t.Context(), before))
	}
	drop(now())
	w.execution(old.ID) // it is open
	_, err = w.AskCancel(t.Context(), w.project, old.ID, warpket.Failure{}, now())
	w.must(err)
	drop(time.Date(2020, 1, 31, 0, 0, 0, 0, time.UTC))
	w.execution(old.ID) // its month is not over by then
	drop(now())
	if _, err := w.ExecutionByID(t.Context(), old.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("it is there: %v", err)
	}
	w.execution(young.ID)
	if n := w.count(`select count(*) from execution_objects`); n != 0 {
		t.Errorf("%d references to objects are left", n)
	}
}

func TestPartitionsAreThereForTheMonthsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	race(8, func(int) {
		if err := w.ExtendPartitions(t.Context()); err != nil {
			t.Error(err)
		}
	})
	f, v := w.addFunction(w.project, "bell")
	this := time.Date(time.Now().UTC().Year(), time.Now().UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{this.AddDate(0, -1, 0), this.Add(-time.Millisecond), this, this.AddDate(0, 1, 0), this.AddDate(0, 3, 0).Add(-time.Millisecond)} {
		e := newExecution(f, v)
		e.ID = warpket.NewID(at)
		_, err := w.CreateExecution(t.Context(), e)
		w.must(err)
		partition := "executions_" + at.Format("200601")
		if n := w.count(`select count(*) from `+partition+` where id = $1`, e.ID); n != 1 {
			t.Errorf("%s is not in %s", e.ID, partition)
		}
	}
}
