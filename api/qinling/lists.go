package qinling

import (
	"context"
	"slices"
	"strings"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

var everyOp = []warpket.Op{warpket.In, warpket.Nin, warpket.Eq, warpket.Neq, warpket.Gt, warpket.Gte, warpket.Lt, warpket.Lte, warpket.Has}

// condition reads a filter: a value, or op:value.
func (q *Query) condition(name string) (warpket.Condition, error) {
	return warpket.ParseCondition(name, q.query.Get(name), everyOp...)
}

// flag reads an argument that is a truth; false unless it is there.
func (q *Query) flag(name string) (bool, error) {
	said := fields{values: map[string]any{}}
	if text := q.query.Get(name); text != "" {
		said.values[name] = text
	}
	return said.flag(name, false)
}

// projects are those whose things a list shows: the caller's own, and for an
// operator those that it asks for.
func (w *wire) projects(ctx context.Context, q *Query) ([]warpket.ID, error) {
	caller := api.CallerOf(ctx)
	own := []warpket.ID{caller.Project}
	all, err := q.flag("all_projects")
	if err != nil {
		return nil, err
	}
	if caller.Role != warpket.Operator {
		if all {
			return nil, newFault(403, notAllowed)
		}
		return own, nil // which project somebody else names is of no importance
	}
	which, err := q.condition("project_id")
	if err != nil || !all && which.Op == "" {
		return own, err
	}
	var found []warpket.ID
	page := postgres.Page{Limit: postgres.MaxPage}
	for {
		projects, next, err := w.server.Store.Projects(ctx, warpket.Condition{}, page)
		if err != nil {
			return nil, err
		}
		for _, p := range projects {
			if which.Holds(string(p.ID)) {
				found = append(found, p.ID)
			}
		}
		if page.Cursor = next; next == "" {
			return found, nil
		}
	}
}

// list gathers the newest things of projects that fit. read gives a page; one that
// is not full though there are more has been looked for in vain.
func list[T any](ctx context.Context, projects []warpket.ID, id func(T) warpket.ID, fits func(T) bool, read func(ctx context.Context, project warpket.ID, page postgres.Page) ([]T, string, error)) ([]T, error) {
	var all []T
	newest := func() {
		slices.SortFunc(all, func(a, b T) int { return strings.Compare(string(id(b)), string(id(a))) })
		all = all[:min(len(all), maxList)]
	}
	inVain := 0 // how many were looked at that do not fit
	for _, project := range projects {
		found, page := 0, postgres.Page{Limit: postgres.MaxPage}
		for found < maxList {
			items, next, err := read(ctx, project, page)
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				if !fits(item) {
					inVain++
					continue
				}
				all = append(all, item)
				found++
			}
			if next != "" && len(items) < page.Limit {
				inVain += postgres.MaxLooked
			}
			if inVain > maxLooked {
				return nil, invalid("There are too many to look through: narrow the list by function_id or status.")
			}
			if page.Cursor = next; next == "" {
				break
			}
		}
		newest()
	}
	return all, nil
}

func always[T any](T) bool { return true }
