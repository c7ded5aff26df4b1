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

// projects are those whose things a list shows: the caller's own, and for an
// operator those that it asks for.
func (w *wire) projects(ctx context.Context, q *Query) ([]warpket.ID, error) {
	caller := api.CallerOf(ctx)
	own := []warpket.ID{caller.Project}
	all, err := fields{values: map[string]any{"all_projects": q.query.Get("all_projects")}}.flag("all_projects", false)
	if q.query.Get("all_projects") == "" {
		all, err = false, nil
	}
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
		projects, next, err := w.server.Store.Projects(ctx, page)
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

// list gathers the newest things of projects that fit. read gives a page.
func list[T any](ctx context.Context, projects []warpket.ID, id func(T) warpket.ID, fits func(T) bool, read func(ctx context.Context, project warpket.ID, page postgres.Page) ([]T, string, error)) ([]T, error) {
	var all []T
	looked := 0
	for _, project := range projects {
		found, page := 0, postgres.Page{Limit: postgres.MaxPage}
		for found < maxList {
			items, next, err := read(ctx, project, page)
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				if fits(item) {
					all = append(all, item)
					found++
				}
			}
			if looked += len(items); looked > maxLooked {
				return nil, invalid("There are too many to look through: narrow the list by function_id or status.")
			}
			if page.Cursor = next; next == "" {
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(string(id(b)), string(id(a))) })
	return all[:min(len(all), maxList)], nil
}

func always[T any](T) bool { return true }
