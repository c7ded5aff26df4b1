package postgres

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Request is a request that carries an idempotency key.
type Request struct {
	ProjectID  warpket.ID
	Operation  string
	Key        string
	BodyDigest string
	SubjectID  warpket.ID // for what the request creates, the same each time it is tried
}

// Answer is what a request was answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// answerTime is how long a request may take before another try of it may
// begin. The process that had taken it is dead then, or its answer is held
// longer than any server holds one.
const answerTime = 2 * time.Minute

// TakeRequest begins a request with an idempotency key. When the key was
// answered before, the answer comes back; else the caller is to answer it,
// with the subject ID that comes back. The same key with another body, or while
// the first is still being answered, is a Conflict.
func (s *Store) TakeRequest(ctx context.Context, r Request, now time.Time) (warpket.ID, *Answer, error) {
	var subject warpket.ID
	var answer *Answer
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `insert into idempotency_keys (project_id, operation, key, subject_id, body_digest, taken_until, created_date) values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`,
			r.ProjectID, r.Operation, r.Key, r.SubjectID, r.BodyDigest, now.Add(answerTime), now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			subject = r.SubjectID
			return nil
		}
		var digest string
		var taken time.Time
		var status *int
		var a Answer
		err = tx.QueryRow(ctx, `select subject_id, body_digest, taken_until, status, coalesce(header, '{}'), answer from idempotency_keys where project_id = $1 and operation = $2 and key = $3 for update`,
			r.ProjectID, r.Operation, r.Key).Scan(&subject, &digest, &taken, &status, &a.Header, &a.Body)
		switch {
		case err != nil:
			return err
		case digest != r.BodyDigest:
			return warpket.Errorf(warpket.Conflict, "this Idempotency-Key was used with another body: use a new key for a new request").At("Idempotency-Key")
		case status != nil:
			a.Status, answer = *status, &a
			return nil
		case taken.After(now):
			return warpket.Errorf(warpket.Conflict, "the first request with this Idempotency-Key is still being answered: try again in a moment").At("Idempotency-Key")
		}
		_, err = tx.Exec(ctx, `update idempotency_keys set taken_until = $4 where project_id = $1 and operation = $2 and key = $3`, r.ProjectID, r.Operation, r.Key, now.Add(answerTime))
		return err
	})
	return subject, answer, explain(err, "idempotency key", r.Key)
}

// AnswerRequest keeps the answer. A nil answer gives the key back, for a
// request that failed on our side and may be tried again.
func (s *Store) AnswerRequest(ctx context.Context, r Request, a *Answer) error {
	var err error
	if a == nil {
		_, err = s.pool.Exec(ctx, `update idempotency_keys set taken_until = created_date where project_id = $1 and operation = $2 and key = $3`, r.ProjectID, r.Operation, r.Key)
	} else {
		_, err = s.pool.Exec(ctx, `update idempotency_keys set status = $4, header = $5, answer = $6 where project_id = $1 and operation = $2 and key = $3`, r.ProjectID, r.Operation, r.Key, a.Status, a.Header, a.Body)
	}
	return explain(err, "idempotency key", r.Key)
}

// requestsKept is how long a request that is repeated finds its answer.
const requestsKept = 48 * time.Hour

// ForgetRequests drops keys that are older than 48 hours.
func (s *Store) ForgetRequests(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `delete from idempotency_keys where created_date < now() - interval '48 hours'`)
	return explain(err, "idempotency key", "")
}
