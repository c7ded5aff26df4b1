package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateToken adds a token, whose secret the caller has hashed. Its functions
// must be the project's, and its role at most that of its member. Adding the
// same ID again gives the token this secret: whoever asks again has not got the
// one before.
func (s *Store) CreateToken(ctx context.Context, t warpket.Token) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var member any
		if t.Member != "" {
			m, err := one(ctx, tx, scanMember, `select `+memberColumns+` from members where project_id = $1 and name = $2 for share`, t.ProjectID, t.Member)
			if warpket.KindOf(explain(err, "member", t.Member)) == warpket.NotFound {
				return warpket.Errorf(warpket.Invalid, "this project has no member %.80q: add one first, with POST /v1/projects/{id}/members", t.Member).At("member")
			}
			if err != nil {
				return err
			}
			if !m.Role.Includes(t.Role) {
				return warpket.Errorf(warpket.Invalid, "%s is a %s, so a token of theirs cannot be for a %s", m.Name, m.Role, t.Role).At("role")
			}
			member = m.ID
		}
		known, err := many(ctx, tx, pgx.RowTo[warpket.ID], `select id from functions where project_id = $1 and id = any ($2::uuid[])`, orNull(t.ProjectID), t.Functions)
		if err != nil {
			return err
		}
		for i, id := range t.Functions {
			if !slices.Contains(known, id) {
				return warpket.Errorf(warpket.Invalid, "this project has no function %q", id).At("functions[%d]", i)
			}
		}
		tag, err := tx.Exec(ctx, `insert into tokens (id, project_id, role, name, secret_hash, created_date, description, functions, member_id, expires_date)
			values ($1, $2, $3, $4, $5, $6, $7, $8::uuid[], $9, $10)
			on conflict (id) do update set secret_hash = excluded.secret_hash where tokens.project_id is not distinct from excluded.project_id`,
			t.ID, orNull(t.ProjectID), t.Role, t.Name, t.SecretHash, t.CreatedDate, t.Description, t.Functions, member, t.ExpiresDate)
		if err == nil && tag.RowsAffected() == 0 {
			return warpket.Errorf(warpket.Conflict, "the token %q exists already", t.ID)
		}
		return err
	})
	return explain(err, "token", t.Name)
}

// Token gives a token, in force or not.
func (s *Store) Token(ctx context.Context, id warpket.ID) (warpket.Token, error) {
	t, err := one(ctx, s.pool, scanToken, `select `+tokenColumns+` where t.id = $1`, id)
	return t, explain(err, "token", id)
}

// ProjectToken gives a token of the project, in force or not.
func (s *Store) ProjectToken(ctx context.Context, project, id warpket.ID) (warpket.Token, error) {
	t, err := one(ctx, s.pool, scanToken, `select `+tokenColumns+` where t.id = $1 and t.project_id = $2`, id, project)
	return t, explain(err, "token", id)
}

// TokenFilter narrows a list of tokens. Zero fields do not.
type TokenFilter struct {
	Name   warpket.Condition // text
	Member string            // name of the one that it was issued to
}

// Tokens lists the tokens of a project that are in force.
func (s *Store) Tokens(ctx context.Context, project warpket.ID, filter TokenFilter, page Page) ([]warpket.Token, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`t.project_id = $1 and t.id < $2 and t.revoked_date is null and (t.expires_date is null or t.expires_date > now())`, project, before, rows)
	if filter.Member != "" {
		w.and(`t.member_id = (select id from members where project_id = $1 and name = $%d)`, filter.Member)
	}
	if err := w.compare(`t.name`, filter.Name, nil); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanToken, `select `+tokenColumns+` where `+w.where.String()+` order by t.id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "token", "")
	}
	items, next := cut(items, rows, func(t warpket.Token) warpket.ID { return t.ID })
	return items, next, nil
}

// RevokeToken ends a project's token. Revoking it again does nothing.
func (s *Store) RevokeToken(ctx context.Context, project, id warpket.ID, now time.Time) error {
	tag, err := s.pool.Exec(ctx, `update tokens set revoked_date = coalesce(revoked_date, $3) where id = $1 and project_id = $2`, id, project, now)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return explain(err, "token", id)
}

// TokenUsed notes when a token was last used.
func (s *Store) TokenUsed(ctx context.Context, id warpket.ID, now time.Time) error {
	_, err := s.pool.Exec(ctx, `update tokens set last_used_date = greatest(last_used_date, $2) where id = $1`, id, now)
	return explain(err, "token", id)
}

//nolint:gosec // the names of columns
const tokenColumns = `t.id, coalesce(t.project_id::text, ''), t.role, t.name, t.secret_hash, t.created_date, coalesce(t.revoked_date, p.deleted_date),
	t.description, t.functions::text[], coalesce(m.name, ''), coalesce(m.role, ''), t.expires_date, t.last_used_date
	from tokens t left join members m on m.id = t.member_id left join projects p on p.id = t.project_id`

func scanToken(row pgx.CollectableRow) (t warpket.Token, err error) {
	err = row.Scan(&t.ID, &t.ProjectID, &t.Role, &t.Name, &t.SecretHash, &t.CreatedDate, &t.RevokedDate,
		&t.Description, &t.Functions, &t.Member, &t.MemberRole, &t.ExpiresDate, &t.LastUsedDate)
	return t, err
}

// CreateMember adds a member to a project. Adding the same ID again does nothing.
func (s *Store) CreateMember(ctx context.Context, m warpket.ProjectMember) error {
	_, err := s.pool.Exec(ctx, `insert into members (id, project_id, name, email, role, created_date, updated_date) values ($1, $2, $3, $4, $5, $6, $6) on conflict (id) do nothing`,
		m.ID, m.ProjectID, m.Name, m.Email, m.Role, m.CreatedDate)
	if isConstraint(err, "members_project_id_name_key") {
		return warpket.Because(warpket.Conflict, err, "this project already has a member %q: choose another name, or change that one with PATCH", m.Name).At("name")
	}
	return explain(err, "member", m.Name)
}

// Member gives a member of a project by its name.
func (s *Store) Member(ctx context.Context, project warpket.ID, name string) (warpket.ProjectMember, error) {
	m, err := one(ctx, s.pool, scanMember, `select `+memberColumns+` from members where project_id = $1 and name = $2`, project, name)
	return m, explain(err, "member", name)
}

// Members lists the members of a project, or those with such a name.
func (s *Store) Members(ctx context.Context, project warpket.ID, name warpket.Condition, page Page) ([]warpket.ProjectMember, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`project_id = $1 and id < $2`, project, before, rows)
	if err := w.compare(`name`, name, nil); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanMember, `select `+memberColumns+` from members where `+w.where.String()+` order by id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "member", "")
	}
	items, next := cut(items, rows, func(m warpket.ProjectMember) warpket.ID { return m.ID })
	return items, next, nil
}

// UpdateMember lets change alter a member; concurrent calls take turns. Tokens
// that it has can do no more than the member from then on.
func (s *Store) UpdateMember(ctx context.Context, project warpket.ID, name string, now time.Time, change func(*warpket.ProjectMember) error) (warpket.ProjectMember, error) {
	var m warpket.ProjectMember
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		m, err = one(ctx, tx, scanMember, `select `+memberColumns+` from members where project_id = $1 and name = $2 for no key update`, project, name)
		if err != nil {
			return err
		}
		if err := change(&m); err != nil {
			return err
		}
		m.UpdatedDate = now
		_, err = tx.Exec(ctx, `update members set email = $2, role = $3, updated_date = $4 where id = $1`, m.ID, m.Email, m.Role, now)
		return err
	})
	return m, explain(err, "member", name)
}

// DeleteMember removes a member and revokes all tokens that were issued to it.
func (s *Store) DeleteMember(ctx context.Context, project warpket.ID, name string, now time.Time, check func(warpket.ProjectMember) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Nobody issues a token to it meanwhile.
		m, err := one(ctx, tx, scanMember, `select `+memberColumns+` from members where project_id = $1 and name = $2 for update`, project, name)
		if err != nil {
			return err
		}
		if err := check(m); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update tokens set revoked_date = coalesce(revoked_date, $2) where member_id = $1`, m.ID, now); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `delete from members where id = $1`, m.ID)
		return err
	})
	return explain(err, "member", name)
}

const memberColumns = `id, project_id, name, email, role, created_date, updated_date`

func scanMember(row pgx.CollectableRow) (m warpket.ProjectMember, err error) {
	err = row.Scan(&m.ID, &m.ProjectID, &m.Name, &m.Email, &m.Role, &m.CreatedDate, &m.UpdatedDate)
	return m, err
}
