package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// BeginAct writes down what is about to be done. It comes before the operation,
// so that none takes effect without it.
func (s *Store) BeginAct(ctx context.Context, a warpket.Act) error {
	_, err := s.pool.Exec(ctx, `insert into audit (id, project_id, token_id, token_name, member, role, operation, subject, address, agent, status, created_date)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11, 0), $12)`,
		a.ID, orNull(a.ProjectID), a.TokenID, a.TokenName, a.Member, a.Role, a.Operation, a.Subject, a.Address, a.Agent, a.Status, a.CreatedDate)
	return explain(err, "audit", a.ID)
}

// EndAct writes down how it was answered.
func (s *Store) EndAct(ctx context.Context, id warpket.ID, status int) error {
	_, err := s.pool.Exec(ctx, `update audit set status = $2 where id = $1`, id, status)
	return explain(err, "audit", id)
}

// ActFilter narrows the audit. Zero fields do not.
type ActFilter struct {
	ProjectID warpket.ID
	TokenID   warpket.ID
	Member    string
	Operation string
	Subject   string // or what it begins with, up to a slash
	Outcome   Outcome
	Since     time.Time
	Until     time.Time
}

// Outcome is how an act was answered.
type Outcome string

// The outcomes.
const (
	ActSucceeded Outcome = "succeeded" // it was done
	ActDenied    Outcome = "denied"    // the caller may not
	ActRefused   Outcome = "refused"   // the request was wrong
	ActFailed    Outcome = "failed"    // our fault; it may have taken effect in part
	ActUnknown   Outcome = "unknown"   // it is being done, or the server that did it has died
)

var outcomes = map[Outcome]string{
	ActSucceeded: `status < 400`,
	ActDenied:    `status = 403`,
	ActRefused:   `status >= 400 and status < 500 and status <> 403`,
	ActFailed:    `status >= 500`,
	ActUnknown:   `status is null`,
}

// OutcomeOf is the outcome that a status stands for.
func OutcomeOf(status int) Outcome {
	switch {
	case status == 0:
		return ActUnknown
	case status < 400:
		return ActSucceeded
	case status == 403:
		return ActDenied
	case status < 500:
		return ActRefused
	default:
		return ActFailed
	}
}

// Acts lists the audit, of one project or of all. With a filter that few fit, a
// page may hold fewer than its limit, even none, while there are more: its cursor
// tells.
func (s *Store) Acts(ctx context.Context, f ActFilter, page Page) ([]warpket.Act, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	from := zeroID
	if !f.Since.IsZero() {
		from = warpket.FirstIDAt(f.Since)
	}
	if !f.Until.IsZero() {
		before = min(before, warpket.FirstIDAt(f.Until))
	}
	w, l := f.walk(before, from)
	if f.ProjectID == "" { // without one there is no index of these
		f.token(w)
		f.operation(w)
		f.subject(w)
	} else if f.Subject == "" && f.TokenID != "" {
		f.operation(w)
	}
	if f.Member != "" {
		w.and(`member = $%d`, f.Member)
	}
	if sql := outcomes[f.Outcome]; sql != "" {
		w.where.WriteString(` and ` + sql)
	}
	l.fits, l.args = strings.TrimPrefix(w.where.String(), l.walk), w.args
	items, next, err := look(ctx, s.pool, l, scanAct, rows, func(a warpket.Act) warpket.ID { return a.ID })
	return items, next, explain(err, "audit", "")
}

// walk is what an index serves. As for executions, it compares all columns of
// the index at once.
func (f ActFilter) walk(before, from warpket.ID) (*conditions, looking) {
	l := looking{table: `audit`, columns: actColumns, order: `id desc`}
	w := where(`id < $1 and id >= $2`, before, from)
	switch {
	case f.ProjectID == "":
	case f.Subject != "": // a range: there is no index with its order
		l.unsorted = true
		w.and(`project_id = $%d`, f.ProjectID)
		f.token(w)
		f.operation(w)
		f.subject(w)
	case f.TokenID != "":
		l.order = `project_id desc, token_id desc, id desc`
		w = where(`(project_id, token_id, id) < ($3, $4, $1) and (project_id, token_id, id) >= ($3, $4, $2)`, before, from, f.ProjectID, f.TokenID)
	case f.Operation != "":
		l.order = `project_id desc, operation desc, id desc`
		w = where(`(project_id, operation, id) < ($3, $4, $1) and (project_id, operation, id) >= ($3, $4, $2)`, before, from, f.ProjectID, f.Operation)
	default:
		l.order = `project_id desc, id desc`
		w = where(`(project_id, id) < ($3, $1) and (project_id, id) >= ($3, $2)`, before, from, f.ProjectID)
	}
	l.walk, l.walkArgs = w.where.String(), w.args
	return w, l
}

func (f ActFilter) token(w *conditions) {
	if f.TokenID != "" {
		w.and(`token_id = $%d`, f.TokenID)
	}
}

func (f ActFilter) operation(w *conditions) {
	if f.Operation != "" {
		w.and(`operation = $%d`, f.Operation)
	}
}

func (f ActFilter) subject(w *conditions) {
	if f.Subject != "" {
		w.and(`(subject = $%[1]d or subject >= $%[1]d || '/' and subject < $%[1]d || '0')`, f.Subject) // 0 is what comes after the slash
	}
}

// ForgetActs drops up to a thousand entries that are older than before, and
// reports how many.
func (s *Store) ForgetActs(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, `delete from audit where id in (select id from audit where id < $1 order by id limit 1000)`, warpket.FirstIDAt(before))
	return tag.RowsAffected(), explain(err, "audit", "")
}

const actColumns = `id, coalesce(project_id::text, ''), token_id, token_name, member, role, operation, subject, address, agent, coalesce(status, 0), created_date`

func scanAct(row pgx.CollectableRow) (a warpket.Act, err error) {
	err = row.Scan(&a.ID, &a.ProjectID, &a.TokenID, &a.TokenName, &a.Member, &a.Role, &a.Operation, &a.Subject, &a.Address, &a.Agent, &a.Status, &a.CreatedDate)
	return a, err
}
