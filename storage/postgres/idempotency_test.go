package postgres_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestAnIdempotencyKeyReplaysItsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	request := func() postgres.Request {
		return postgres.Request{ProjectID: w.project, Operation: "create-execution", Key: "k", BodyDigest: "d", SubjectID: newID()}
	}
	first := request()
	subject, answer, err := w.TakeRequest(t.Context(), first, now())
	if subject != first.SubjectID || answer != nil || err != nil {
		t.Fatalf("subject %s, answer %v (%v)", subject, answer, err)
	}
	_, _, err = w.TakeRequest(t.Context(), request(), now())
	wantKind(t, err, warpket.Conflict) // it is still being answered

	want := postgres.Answer{Status: http.StatusAccepted, Header: http.Header{"Location": {"/v1/x"}}, Body: []byte(`{"a":1}`)}
	w.must(w.AnswerRequest(t.Context(), first, &want))
	subject, answer, err = w.TakeRequest(t.Context(), request(), now())
	w.must(err)
	if subject != first.SubjectID || !cmp.Equal(&want, answer) {
		t.Errorf("subject %s, answer %+v", subject, answer)
	}

	other := request()
	other.BodyDigest = "other"
	_, _, err = w.TakeRequest(t.Context(), other, now())
	wantKind(t, err, warpket.Conflict)
	for name, change := range map[string]func(*postgres.Request){
		"another operation": func(r *postgres.Request) { r.Operation = "create-function" },
		"another key":       func(r *postgres.Request) { r.Key = "l" },
		"another project":   func(r *postgres.Request) { r.ProjectID = w.addProject("two") },
	} {
		r := request()
		change(&r)
		if subject, answer, err := w.TakeRequest(t.Context(), r, now()); subject != r.SubjectID || answer != nil || err != nil {
			t.Errorf("%s: subject %s, answer %v (%v)", name, subject, answer, err)
		}
	}
}

func TestAnIdempotencyKeyIsTakenByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var taken counter
	race(10, func(int) {
		r := postgres.Request{ProjectID: w.project, Operation: "o", Key: "k", BodyDigest: "d", SubjectID: newID()}
		_, _, err := w.TakeRequest(t.Context(), r, now())
		if err == nil {
			taken.add("taken")
		} else {
			wantKind(t, err, warpket.Conflict)
		}
	})
	if taken.n["taken"] != 1 {
		t.Errorf("%d took it", taken.n["taken"])
	}
}

func TestAnIdempotencyKeyThatIsGivenBackKeepsItsSubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := postgres.Request{ProjectID: w.project, Operation: "o", Key: "k", BodyDigest: "d", SubjectID: newID()}
	for _, take := range []struct {
		name string
		at   time.Time
	}{{"first", now()}, {"given back", now().Add(time.Second)}, {"again", now().Add(2 * time.Second)}} {
		again := r
		again.SubjectID = newID()
		if take.name == "first" {
			again = r
		}
		subject, answer, err := w.TakeRequest(t.Context(), again, take.at)
		if subject != r.SubjectID || answer != nil || err != nil {
			t.Errorf("%s: subject %s, answer %v (%v)", take.name, subject, answer, err)
		}
		w.must(w.AnswerRequest(t.Context(), r, nil))
	}
	// A server that died while it answered gives nothing back.
	_, _, err := w.TakeRequest(t.Context(), r, now().Add(3*time.Second))
	w.must(err)
	_, _, err = w.TakeRequest(t.Context(), r, now().Add(time.Minute))
	wantKind(t, err, warpket.Conflict)
	if _, _, err = w.TakeRequest(t.Context(), r, now().Add(time.Hour)); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestIdempotencyKeysAreForgottenAfterTwoDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for key, age := range map[string]time.Duration{"old": 49 * time.Hour, "young": 47 * time.Hour} {
		_, _, err := w.TakeRequest(t.Context(), postgres.Request{ProjectID: w.project, Operation: "o", Key: key, SubjectID: newID()}, now().Add(-age))
		w.must(err)
	}
	w.must(w.ForgetRequests(t.Context()))
	if n := w.count(`select count(*) from idempotency_keys where key = 'young'`); n != 1 || w.count(`select count(*) from idempotency_keys`) != 1 {
		t.Errorf("%d young keys are left", n)
	}
}
