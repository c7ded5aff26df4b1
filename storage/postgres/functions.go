package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateFunction adds a function and its first version in one step. Adding the
// same ID again does nothing, so a repeated request may call it.
func (s *Store) CreateFunction(ctx context.Context, f warpket.Function, v warpket.Version) error {
	return s.createFunction(ctx, f, 2, func(tx pgx.Tx) error {
		v.Number = 1
		return insertVersion(ctx, tx, v)
	})
}

// CreateFunctionWithDraft adds a function that has a draft and no version yet.
// Adding the same ID again does nothing.
func (s *Store) CreateFunctionWithDraft(ctx context.Context, f warpket.Function, draft warpket.Snapshot) error {
	draft.ProjectID, draft.FunctionID = f.ProjectID, f.ID
	return s.createFunction(ctx, f, 1, func(tx pgx.Tx) error {
		if err := insertSnapshot(ctx, tx, draft); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update functions set draft_id = $2 where id = $1`, f.ID, draft.ID)
		return err
	})
}

// createFunction adds a function, and with code what it runs.
func (s *Store) createFunction(ctx context.Context, f warpket.Function, nextVersion int, code func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if f.RuntimeID != "" {
			if err := mayUse(ctx, tx, f.ProjectID, f.RuntimeID); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `insert into functions (id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, created_date, updated_date, label, runtime_id)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12) on conflict (id) do nothing`,
			f.ID, f.ProjectID, f.Name, f.Description, f.TemplateTag, f.SDK, f.SDKVersion, f.Settings, nextVersion, f.CreatedDate, f.Label, orNull(f.RuntimeID))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if f.Settings.Network == warpket.Egress {
			if err := mayEgress(ctx, tx, f.ProjectID); err != nil {
				return err
			}
		}
		if err := within(ctx, tx, f.ProjectID, warpket.FunctionLimit, 1, countFunctions, f.CreatedDate); err != nil {
			return err
		}
		return code(tx)
	})
	if isConstraint(err, "functions_project_id_name_key") {
		return warpket.Because(warpket.Conflict, err, "this project already has a function %q: choose another name, or publish a new version of that one", f.Name).At("functionName")
	}
	return explain(err, "function", f.Name)
}

// Function gives a function of the project, by its ID.
func (s *Store) Function(ctx context.Context, project, id warpket.ID) (warpket.Function, error) {
	f, err := one(ctx, s.pool, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2`, id, project)
	return f, explain(err, "function", id)
}

// FunctionByID gives a function. It serves whoever knows the ID, so it takes no
// tenant.
func (s *Store) FunctionByID(ctx context.Context, id warpket.ID) (warpket.Function, error) {
	f, err := one(ctx, s.pool, scanFunction, `select `+functionColumns+` from functions where id = $1`, id)
	return f, explain(err, "function", id)
}

// FunctionFilter narrows a list of functions. Zero fields do not.
type FunctionFilter struct {
	Name        warpket.Condition
	Label       warpket.Condition
	Description warpket.Condition
	TemplateTag warpket.Condition
	SDK         warpket.Condition
	SDKVersion  warpket.Condition
	CreatedDate warpket.Condition // RFC 3339
	UpdatedDate warpket.Condition // RFC 3339
	IDs         []warpket.ID      // only these; nil for all
}

// Functions lists the functions of a project. With a filter that no index knows
// and few fit, a page may hold fewer than its limit, even none, while there are
// more: its cursor tells.
func (s *Store) Functions(ctx context.Context, project warpket.ID, filter FunctionFilter, page Page) ([]warpket.Function, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	l := looking{table: `functions`, columns: functionColumns, order: `id desc`, unsorted: true}
	w := where(`project_id = $1 and id < $2`, project, before)
	if filter.unsought() {
		l.order, l.unsorted = `project_id desc, id desc`, false
		w = where(`(project_id, id) < ($1, $2) and (project_id, id) >= ($1, $3)`, project, before, zeroID)
	}
	if err := filter.texts(w, false); err != nil {
		return nil, "", err
	}
	if err := w.compareCreated(filter.CreatedDate); err != nil {
		return nil, "", err
	}
	if err := w.compare("updated_date", filter.UpdatedDate, date("updatedDate")); err != nil {
		return nil, "", err
	}
	if filter.IDs != nil {
		w.and("id = any ($%d::uuid[])", filter.IDs)
	}
	l.walk, l.walkArgs = w.where.String(), w.args
	if err := filter.texts(w, true); err != nil {
		return nil, "", err
	}
	l.fits, l.args = strings.TrimPrefix(w.where.String(), l.walk), w.args
	items, next, err := look(ctx, s.pool, l, scanFunction, rows, func(f warpket.Function) warpket.ID { return f.ID })
	return items, next, explain(err, "function", "")
}

// column is one that is compared as text.
type column struct {
	name      string
	condition warpket.Condition
}

func (f FunctionFilter) columns() []column {
	return []column{{"name", f.Name}, {"label", f.Label}, {"description", f.Description}, {"template_tag", f.TemplateTag}, {"sdk", f.SDK}, {"sdk_version", f.SDKVersion}}
}

// sought reports whether an index finds the values: not those that are excluded,
// and no text that is too short for a trigram.
func (c column) sought() bool {
	switch c.condition.Op {
	case "", warpket.Neq, warpket.Nin:
		return false
	case warpket.Has:
		return len(c.condition.Values[0]) >= 3
	default:
		return c.name != "description" || len(c.condition.Values[0]) >= 3
	}
}

// unsought reports whether no index finds what is asked for, so that it has to
// be looked for.
func (f FunctionFilter) unsought() bool {
	return f.UpdatedDate.Op == "" && f.IDs == nil && !slices.ContainsFunc(f.columns(), column.sought)
}

// texts adds the conditions on texts: those that an index knows, or the others.
func (f FunctionFilter) texts(w *conditions, others bool) error {
	for _, c := range f.columns() {
		if c.sought() == others {
			continue
		}
		if err := w.compare(c.name, c.condition, nil); err != nil {
			return err
		}
	}
	return nil
}

// UpdateFunction lets change alter the function; concurrent calls take turns. A
// draft of its own takes over another entry.
func (s *Store) UpdateFunction(ctx context.Context, project, id warpket.ID, now time.Time, change func(*warpket.Function) error) (warpket.Function, error) {
	var f warpket.Function
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		f, err = one(ctx, tx, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2 for update`, id, project)
		if err != nil {
			return err
		}
		before := f.Settings
		if err := change(&f); err != nil {
			return err
		}
		if f.Settings.NeedNewSlots(before) {
			f.Revision++
			if err := revise(ctx, tx, `id = $1`, id); err != nil {
				return err
			}
		}
		if f.Settings.Network == warpket.Egress && before.Network != warpket.Egress {
			if err := mayEgress(ctx, tx, project); err != nil {
				return err
			}
		}
		f.UpdatedDate = now
		if _, err = tx.Exec(ctx, `update functions set name = $2, description = $3, settings = $4, updated_date = $5, label = $6 where id = $1`, id, f.Name, f.Description, f.Settings, now, f.Label); err != nil {
			return err
		}
		if f.Settings.Entry != before.Entry {
			return reenter(ctx, tx, f, now)
		}
		return nil
	})
	if isConstraint(err, "functions_project_id_name_key") {
		return f, warpket.Because(warpket.Conflict, err, "this project already has a function %q: choose another name", f.Name).At("functionName")
	}
	return f, explain(err, "function", id)
}

// mayEgress refuses what the project may not have. The project stays as it is
// until the transaction has ended.
func mayEgress(ctx context.Context, tx pgx.Tx, project warpket.ID) error {
	var may bool
	if err := tx.QueryRow(ctx, `select allow_egress from projects where id = $1 for share`, project).Scan(&may); err != nil || may {
		return err
	}
	return warpket.Errorf(warpket.Denied, "this project's functions may not reach the network: ask an operator to allow it, with PATCH /v1/projects/%s {\"allowEgress\": true}", project).At("network")
}

// Deleted is what a deleted function leaves behind, for the caller to end.
type Deleted struct {
	Executions  []warpket.ID
	Deployments []warpket.ID
	Slots       []warpket.Slot
}

// DeleteFunction deletes a function with its versions, aliases, webhooks and schedules. It
// refuses while an execution is open, unless forced. Executions stay listed.
func (s *Store) DeleteFunction(ctx context.Context, project, id warpket.ID, force bool) (left Deleted, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := one(ctx, tx, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2 for update`, id, project); err != nil {
			return err
		}
		left.Executions, err = many(ctx, tx, pgx.RowTo[warpket.ID], `select id from executions where function_id = $1 and status in ('queued', 'running')`, id)
		if err != nil {
			return err
		}
		if n := len(left.Executions); n > 0 && !force {
			return warpket.Errorf(warpket.Conflict, "%d executions of this function are queued or running: wait for them, cancel them, or delete with ?force=true", n)
		}
		left.Deployments, err = many(ctx, tx, pgx.RowTo[warpket.ID], `select id from deployments where function_id = $1`, id)
		if err != nil {
			return err
		}
		if left.Slots, err = many(ctx, tx, scanSlot, `select `+slotColumns+` from slots where function_id = $1`, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update slots set deployment_id = null where function_id = $1`, id); err != nil {
			return err
		}
		for _, sql := range []string{
			`insert into outbox (kind, subject_id) select 'schedule', id from schedules where function_id = $1 on conflict do nothing`, // Temporal's are to go
			`delete from outbox where kind = 'deploy' and subject_id in (select id from deployments where function_id = $1)`,
			`delete from deployments where function_id = $1`,
			`delete from webhooks where function_id = $1 or alias_id in (select id from aliases where function_id = $1)`,
			`delete from aliases where function_id = $1`,
			`delete from versions where function_id = $1`,
			`delete from functions where id = $1`,
		} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		return nil
	})
	return left, explain(err, "function", id)
}

const functionColumns = `id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, revision, created_date, updated_date,
	case when runtime_id is null then (select n.image from snapshots n where n.id = coalesce((select v.snapshot_id from versions v where v.function_id = functions.id order by v.number desc limit 1), functions.draft_id)) end, label,
	(select n.source from snapshots n where n.id = coalesce((select v.snapshot_id from versions v where v.function_id = functions.id order by v.number desc limit 1), functions.draft_id)),
	coalesce(runtime_id::text, ''), coalesce((select r.image is not null from runtimes r where r.id = functions.runtime_id), false)`

func scanFunction(row pgx.CollectableRow) (f warpket.Function, err error) {
	err = row.Scan(functionFields(&f)...)
	completeFunction(&f)
	return f, err
}

// functionFields are where the functionColumns of a row go.
func functionFields(f *warpket.Function) []any {
	return []any{&f.ID, &f.ProjectID, &f.Name, &f.Description, &f.TemplateTag, &f.SDK, &f.SDKVersion, &f.Settings, &f.NextVersion, &f.Revision, &f.CreatedDate, &f.UpdatedDate, &f.Image, &f.Label, &f.Source, &f.RuntimeID, &f.InImage}
}

// completeFunction sets what functions lack that are older than a setting.
func completeFunction(f *warpket.Function) {
	f.Settings.Network = cmp.Or(f.Settings.Network, warpket.NoNetwork)
	f.Settings.Gateway = cmp.Or(f.Settings.Gateway, warpket.GatewayToken)
	if f.Settings.Resources.Network = ""; f.Settings.Network == warpket.Egress {
		f.Settings.Resources.Network = warpket.Egress
	}
}
