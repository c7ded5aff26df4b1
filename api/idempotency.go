package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// maxKept is the largest answer that is kept for a repetition. All answers to
// a POST are smaller.
const maxKept = 4 << 20

// maxKey is how long an Idempotency-Key may be, in bytes.
const maxKey = 255

// idempotencyKey documents the header where it matters most: these operations
// take long, and would do twice what is sent twice.
func idempotencyKey() []*huma.Param {
	most := maxKey
	return []*huma.Param{{
		Name: "Idempotency-Key", In: "header", Description: "A text of your own: the request takes effect once, however often it is sent with it",
		Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
	}}
}

// confidential marks operations whose body holds a secret.
const confidential = "confidential"

type subjectKey struct{}

// newID is the ID for what a request creates. It is the same when a request
// with an idempotency key is tried again.
func (s *Server) newID(ctx context.Context) warpket.ID {
	if id, ok := ctx.Value(subjectKey{}).(warpket.ID); ok {
		return id
	}
	return warpket.NewID(s.Now())
}

// repeatable makes a POST with an Idempotency-Key take effect once, however
// often it is sent.
func (s *Server) repeatable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		c := callerOf(r.Context())
		if r.Method != http.MethodPost || key == "" || c.err != nil {
			next.ServeHTTP(w, r)
			return
		}
		if len(key) > maxKey {
			problemOf(warpket.Errorf(warpket.Invalid, "an Idempotency-Key has at most %d bytes", maxKey).At("header.Idempotency-Key")).write(w)
			return
		}
		body, err := s.body(w, r)
		if err != nil {
			problemOf(err).write(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		digest := warpket.SHA256(body)
		if c.token.Functions != nil { // it gets no answer to another token
			digest = warpket.SHA256([]byte(string(c.token.ID) + "\n" + digest))
		}
		if _, pattern := s.mux.Handler(r); s.guards[pattern].Metadata[confidential] != nil {
			// A plain digest would let whoever reads the database try values. The token is not in it.
			digest = warpket.SHA256([]byte(r.Header.Get("Authorization") + "\n" + digest))
		}
		request := postgres.Request{ProjectID: c.project, Operation: r.Method + " " + r.URL.Path, Key: key, BodyDigest: digest, SubjectID: warpket.NewID(s.Now())}
		subject, answer, err := s.Store.TakeRequest(r.Context(), request, s.Now())
		if err != nil {
			problemOf(err).write(w)
			return
		}
		if answer != nil {
			maps.Copy(w.Header(), answer.Header)
			w.Header().Set("Idempotency-Replayed", "true")
			w.WriteHeader(answer.Status)
			_, _ = w.Write(answer.Body) // the client may have gone
			return
		}
		s.answer(w, r.WithContext(context.WithValue(r.Context(), subjectKey{}, subject)), next, request)
	})
}

// body reads the body of a request that may be repeated, after the checks that
// the operation itself would make of caller, size and pace.
func (s *Server) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	_, pattern := s.mux.Handler(r)
	op, ok := s.guards[pattern]
	if !ok {
		return nil, warpket.Errorf(warpket.NotFound, "there is nothing at %s", clip(r.URL.Path, 200))
	}
	if scope := s.scopes[op.OperationID]; scope != Public {
		err := permit(r.Context(), scope)
		if err == nil {
			err = callerOf(r.Context()).admits(s.reaches[op.OperationID], pathParam(op.Path, r.URL.Path)("functionId"))
		}
		if err != nil && op.Metadata[ownRecord] == nil {
			s.denied(r.Context(), op.OperationID, subjectOf(op.Path, pathParam(op.Path, r.URL.Path)), err)
		}
		if err != nil {
			return nil, err
		}
	}
	return readBody(w, r, op.MaxBodyBytes, op.BodyReadTimeout)
}

// readBody reads a body within bounds of size and time.
func readBody(w http.ResponseWriter, r *http.Request, most int64, within time.Duration) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(within)) // what cannot have one is no network connection
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, warpket.Errorf(warpket.TooLarge, "the body has more than %d bytes", most)
	}
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the body broke off or came too slowly")
	}
	return body, nil
}

// answer answers a request and keeps the answer, unless the failure was ours.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, next http.Handler, request postgres.Request) {
	kept := &recording{ResponseWriter: w, status: http.StatusOK}
	var answer *postgres.Answer
	defer func() {
		// The caller may be gone by now; its next try is to find the answer.
		if err := s.Store.AnswerRequest(context.WithoutCancel(r.Context()), request, answer); err != nil {
			s.Log.Error("answer not kept", "operation", request.Operation, "error", err)
		}
	}()
	next.ServeHTTP(kept, r)
	if kept.status < http.StatusInternalServerError && kept.status != http.StatusTooManyRequests && kept.status != http.StatusUnauthorized && kept.status != http.StatusForbidden && kept.body.Len() < maxKept {
		answer = &postgres.Answer{Status: kept.status, Header: w.Header().Clone(), Body: withoutToken(kept.body.Bytes())}
	}
}

// withoutToken takes a secret that is shown only once out of an answer that is
// kept: a repetition tells what was created, without it.
func withoutToken(body []byte) []byte {
	var fields map[string]json.RawMessage
	if !bytes.Contains(body, []byte(`"token"`)) || json.Unmarshal(body, &fields) != nil || fields["token"] == nil {
		return body
	}
	delete(fields, "token")
	b, err := json.Marshal(fields)
	if err != nil {
		return []byte("{}")
	}
	return b
}

// recording passes an answer on and keeps a copy.
type recording struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recording) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recording) Write(b []byte) (int, error) {
	if r.body.Len() < maxKept {
		r.body.Write(b)
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets deadlines and flushes through.
func (r *recording) Unwrap() http.ResponseWriter { return r.ResponseWriter }
