package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateWebhook adds a webhook for what exists. Adding the same ID again does
// nothing.
func (s *Store) CreateWebhook(ctx context.Context, w warpket.Webhook) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		alias, err := webhookTarget(ctx, tx, &w)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into webhooks (id, project_id, description, function_id, version_number, alias_id, signature, sealed, rate_per_minute, sync, created_date, updated_date)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) on conflict (id) do nothing`,
			w.ID, w.ProjectID, w.Description, orNull(w.FunctionID), w.Version, orNull(alias), w.Signature, w.Sealed, w.RatePerMinute, w.Sync, w.CreatedDate)
		return err
	})
	return webhookError(err, w)
}

// webhookTarget refuses a function or an alias that the project has not, says
// which function is executed, and gives the ID of the alias, if it is one. What
// there is stays until the transaction has ended.
func webhookTarget(ctx context.Context, tx pgx.Tx, w *warpket.Webhook) (alias warpket.ID, err error) {
	if w.Alias == "" {
		w.Executes = w.FunctionID
		return "", hasFunction(ctx, tx, w.ProjectID, w.FunctionID)
	}
	err = tx.QueryRow(ctx, `select id, function_id from aliases where project_id = $1 and name = $2 for key share`, w.ProjectID, w.Alias).Scan(&alias, &w.Executes)
	return alias, explain(err, "alias", w.Alias)
}

func webhookError(err error, w warpket.Webhook) error {
	if w.Version != nil && isConstraint(err, "webhooks_version") {
		return noVersion(err, w.FunctionID, *w.Version).At("version")
	}
	return explain(err, "webhook", w.ID)
}

// Webhook gives a webhook of the project.
func (s *Store) Webhook(ctx context.Context, project, id warpket.ID) (warpket.Webhook, error) {
	w, err := one(ctx, s.pool, scanWebhook, `select `+webhookColumns+` where w.id = $1 and w.project_id = $2`, id, project)
	return w, explain(err, "webhook", id)
}

// WebhookByID gives a webhook. It serves whoever knows the ID, so it takes no
// tenant.
func (s *Store) WebhookByID(ctx context.Context, id warpket.ID) (warpket.Webhook, error) {
	w, err := one(ctx, s.pool, scanWebhook, `select `+webhookColumns+` where w.id = $1`, id)
	return w, explain(err, "webhook", id)
}

// WebhookFilter narrows a list of webhooks. Zero fields do not.
type WebhookFilter struct {
	FunctionID warpket.ID
	Alias      string
	Functions  []warpket.ID // only those that execute these, also by an alias; nil for all
}

// Webhooks lists the webhooks of a project.
func (s *Store) Webhooks(ctx context.Context, project warpket.ID, filter WebhookFilter, page Page) ([]warpket.Webhook, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	c := where(`w.project_id = $1 and w.id < $2`, project, before, rows)
	if filter.FunctionID != "" {
		c.and(`w.function_id = $%d`, filter.FunctionID)
	}
	if filter.Alias != "" {
		c.and(`w.alias_id = (select id from aliases where project_id = $1 and name = $%d)`, filter.Alias)
	}
	if filter.Functions != nil {
		c.and(`coalesce(w.function_id, a.function_id) = any ($%d::uuid[])`, filter.Functions)
	}
	items, err := planned(ctx, s.pool, scanWebhook, `select `+webhookColumns+` where `+c.where.String()+` order by w.id desc limit $3`, c.args...)
	if err != nil {
		return nil, "", explain(err, "webhook", "")
	}
	items, next := cut(items, rows, func(w warpket.Webhook) warpket.ID { return w.ID })
	return items, next, nil
}

// UpdateWebhook lets change alter the webhook; concurrent calls take turns.
func (s *Store) UpdateWebhook(ctx context.Context, project, id warpket.ID, now time.Time, change func(*warpket.Webhook) error) (warpket.Webhook, error) {
	var w warpket.Webhook
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		w, err = one(ctx, tx, scanWebhook, `select `+webhookColumns+` where w.id = $1 and w.project_id = $2 for no key update of w`, id, project)
		if err != nil {
			return err
		}
		if err := change(&w); err != nil {
			return err
		}
		alias, err := webhookTarget(ctx, tx, &w)
		if err != nil {
			return err
		}
		w.UpdatedDate = now
		_, err = tx.Exec(ctx, `update webhooks set description = $2, function_id = $3, version_number = $4, alias_id = $5, signature = $6, sealed = $7, rate_per_minute = $8, sync = $9, updated_date = $10 where id = $1`,
			id, w.Description, orNull(w.FunctionID), w.Version, orNull(alias), w.Signature, w.Sealed, w.RatePerMinute, w.Sync, now)
		return err
	})
	return w, webhookError(err, w)
}

// DeleteWebhook removes a webhook. check may refuse what is the webhook at that
// moment.
func (s *Store) DeleteWebhook(ctx context.Context, project, id warpket.ID, check func(warpket.Webhook) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		w, err := one(ctx, tx, scanWebhook, `select `+webhookColumns+` where w.id = $1 and w.project_id = $2 for update of w`, id, project)
		if err != nil {
			return err
		}
		if err := check(w); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `delete from webhooks where id = $1`, id)
		return err
	})
	return explain(err, "webhook", id)
}

const webhookColumns = `w.id, w.project_id, w.description, coalesce(w.function_id::text, ''), w.version_number, coalesce(a.name, ''), w.signature, w.sealed, w.rate_per_minute, w.sync, w.created_date, w.updated_date, coalesce(w.function_id, a.function_id)
	from webhooks w left join aliases a on a.id = w.alias_id`

func scanWebhook(row pgx.CollectableRow) (w warpket.Webhook, err error) {
	err = row.Scan(&w.ID, &w.ProjectID, &w.Description, &w.FunctionID, &w.Version, &w.Alias, &w.Signature, &w.Sealed, &w.RatePerMinute, &w.Sync, &w.CreatedDate, &w.UpdatedDate, &w.Executes)
	return w, err
}
