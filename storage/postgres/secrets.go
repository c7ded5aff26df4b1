package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// ProjectKey gives a project's wrapped key, adding the one that first makes if
// there is none.
func (s *Store) ProjectKey(ctx context.Context, project warpket.ID, first func() ([]byte, error)) ([]byte, error) {
	read := func() ([]byte, error) {
		return one(ctx, s.pool, pgx.RowTo[[]byte], `select wrapped from project_keys where project_id = $1`, project)
	}
	key, err := read()
	if warpket.KindOf(explain(err, "key of project", project)) != warpket.NotFound {
		return key, explain(err, "key of project", project)
	}
	if key, err = first(); err != nil {
		return nil, err
	}
	if _, err = s.pool.Exec(ctx, `insert into project_keys (project_id, wrapped) values ($1, $2) on conflict do nothing`, project, key); err != nil {
		return nil, explain(err, "key of project", project)
	}
	key, err = read() // another may have been first
	return key, explain(err, "key of project", project)
}

// RewrapProjectKey replaces a wrapped key, if it still is the old one.
func (s *Store) RewrapProjectKey(ctx context.Context, project warpket.ID, old, wrapped []byte) error {
	_, err := s.pool.Exec(ctx, `update project_keys set wrapped = $3 where project_id = $1 and wrapped = $2`, project, old, wrapped)
	return explain(err, "key of project", project)
}

// Sealed is the value of a secret as it is kept.
type Sealed struct {
	Ciphertext []byte
	Size       int // bytes of the value
}

// CreateSecret adds a secret. Adding the same ID again does nothing.
func (s *Store) CreateSecret(ctx context.Context, secret warpket.StoredSecret, value Sealed) error {
	_, err := s.pool.Exec(ctx, `insert into secrets (id, project_id, name, sealed, size, created_date, updated_date) values ($1, $2, $3, $4, $5, $6, $6) on conflict (id) do nothing`,
		secret.ID, secret.ProjectID, secret.Name, value.Ciphertext, value.Size, secret.CreatedDate)
	if isConstraint(err, "secrets_project_id_name_key") {
		return warpket.Because(warpket.Conflict, err, "this project already has a secret %q: change its value with PATCH, or choose another name", secret.Name).At("name")
	}
	return explain(err, "secret", secret.Name)
}

// Secret gives a secret of the project by its name, without its value.
func (s *Store) Secret(ctx context.Context, project warpket.ID, name string) (warpket.StoredSecret, error) {
	secret, err := one(ctx, s.pool, scanSecret, `select `+secretColumns+` from secrets s where s.project_id = $1 and s.name = $2`, project, name)
	return secret, explain(err, "secret", name)
}

// SealedSecret gives the value of a secret of the project as it is kept.
func (s *Store) SealedSecret(ctx context.Context, project warpket.ID, name string) ([]byte, error) {
	sealed, err := one(ctx, s.pool, pgx.RowTo[[]byte], `select sealed from secrets where project_id = $1 and name = $2`, project, name)
	return sealed, explain(err, "secret", name)
}

// Secrets lists the secrets of a project, or those with such a name, without their
// values.
func (s *Store) Secrets(ctx context.Context, project warpket.ID, name warpket.Condition, page Page) ([]warpket.StoredSecret, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`s.project_id = $1 and s.id < $2`, project, before, rows)
	if err := w.compare(`s.name`, name, nil); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanSecret, `select `+secretColumns+` from secrets s where `+w.where.String()+` order by s.id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "secret", "")
	}
	items, next := cut(items, rows, func(s warpket.StoredSecret) warpket.ID { return s.ID })
	return items, next, nil
}

// ChangeSecret replaces the value of a secret. The functions that use it get a
// new revision, so that none of their slots keeps the old value. check may refuse
// to change what is there at that moment.
func (s *Store) ChangeSecret(ctx context.Context, project warpket.ID, name string, value Sealed, now time.Time, check func(warpket.StoredSecret) error) (warpket.StoredSecret, error) {
	var secret warpket.StoredSecret
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		secret, err = one(ctx, tx, scanSecret, `select `+secretColumns+` from secrets s where s.project_id = $1 and s.name = $2 for no key update of s`, project, name)
		if err != nil {
			return err
		}
		if err := check(secret); err != nil {
			return err
		}
		secret.UpdatedDate = now
		if _, err := tx.Exec(ctx, `update secrets set sealed = $2, size = $3, updated_date = $4 where id = $1`, secret.ID, value.Ciphertext, value.Size, now); err != nil {
			return err
		}
		users, err := many(ctx, tx, pgx.RowTo[warpket.ID], `select id from functions where id in (select function_id from function_secrets where secret_id = $1) order by id for no key update`, secret.ID)
		if err != nil {
			return err
		}
		for _, id := range users {
			if err := checkEnvironment(ctx, tx, id); err != nil {
				return err
			}
		}
		return revise(ctx, tx, `id = any ($1::uuid[])`, users)
	})
	return secret, explain(err, "secret", name)
}

// DeleteSecret removes a secret that no function uses.
func (s *Store) DeleteSecret(ctx context.Context, project warpket.ID, name string) error {
	secret, err := s.Secret(ctx, project, name)
	if err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, `delete from secrets s where s.id = $1 and not exists (select from functions f where f.project_id = s.project_id and f.settings->>'Credentials' = s.name)`, secret.ID)
	if isConstraint(err, "function_secrets_secret_id_fkey") || err == nil && tag.RowsAffected() == 0 {
		if secret, err = s.Secret(ctx, project, name); err != nil {
			return err
		}
		return warpket.Errorf(warpket.Conflict, "the secret %s is in the environment, or the credentials, of the functions %s: take it out there first", name, listed(secret.UsedBy))
	}
	return explain(err, "secret", name)
}

//nolint:gosec // the names of columns
const secretColumns = `s.id, s.project_id, s.name, s.created_date, s.updated_date,
	array(select f.name from functions f where f.id in (select u.function_id from function_secrets u where u.secret_id = s.id)
		union select f.name from functions f where f.project_id = s.project_id and f.settings->>'Credentials' = s.name and f.settings->>'Credentials' <> '' order by name)`

func scanSecret(row pgx.CollectableRow) (s warpket.StoredSecret, err error) {
	err = row.Scan(&s.ID, &s.ProjectID, &s.Name, &s.CreatedDate, &s.UpdatedDate, &s.UsedBy)
	return s, err
}
