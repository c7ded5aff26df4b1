package main

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	words "github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// filling makes what lists are read from, in the product's own database.
//
//go:embed lists.sql
var filling string

// Who reads a page of 50.
const (
	overHTTP = "warpket, over HTTP"
	inStore  = "warpket, at the store"
	plain    = "select, without a filter"
)

// Cases that hold the slowest of a list's filters.
const (
	slowestFunctions  = "functions: the slowest filter"
	slowestExecutions = "executions: the slowest filter"
)

const (
	listCalls  = 100
	listTime   = 2 * time.Second // of a case, which has ended by then
	fillTime   = 15 * time.Minute
	pageOfList = 50
)

// listCase is a list with one filter.
type listCase struct {
	query string // name=value; empty for none
	store func(ctx context.Context, s *postgres.Store, project words.ID) error
}

// busy is the function that a tenth of all executions are of, as lists.sql has it.
const busy = "f-100"

func functionCases() []listCase {
	recently := time.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	of := func(query string, f postgres.FunctionFilter) listCase {
		return listCase{query, func(ctx context.Context, s *postgres.Store, project words.ID) error {
			_, _, err := s.Functions(ctx, project, f, postgres.Page{Limit: pageOfList})
			return err
		}}
	}
	text := func(field, query string, set func(*postgres.FunctionFilter, words.Condition)) listCase {
		c, _ := words.ParseCondition(field, query, words.Eq, words.Neq, words.In, words.Nin, words.Has, words.Gt, words.Gte, words.Lt, words.Lte)
		var f postgres.FunctionFilter
		set(&f, c)
		return of(field+"="+query, f)
	}
	name := func(f *postgres.FunctionFilter, c words.Condition) { f.Name = c }
	label := func(f *postgres.FunctionFilter, c words.Condition) { f.Label = c }
	description := func(f *postgres.FunctionFilter, c words.Condition) { f.Description = c }
	template := func(f *postgres.FunctionFilter, c words.Condition) { f.TemplateTag = c }
	sdk := func(f *postgres.FunctionFilter, c words.Condition) { f.SDK = c }
	version := func(f *postgres.FunctionFilter, c words.Condition) { f.SDKVersion = c }
	created := func(f *postgres.FunctionFilter, c words.Condition) { f.CreatedDate = c }
	updated := func(f *postgres.FunctionFilter, c words.Condition) { f.UpdatedDate = c }
	return []listCase{
		of("", postgres.FunctionFilter{}),
		text("name", "f-77778", name), text("name", "has:f-777", name), text("name", "has:zz", name),
		text("label", "team 20", label), text("label", "has:team", label),
		text("description", "has:quarterly", description), text("description", "has:nothing", description),
		text("templateLanguageTag", "Qiskit", template), text("templateLanguageTag", "in:Cirq,nothing", template),
		text("sdk", "cirq", sdk), text("description", "by hand", description), text("description", "eq:ru", description),
		text("sdkVersion", "0.45.3", version), text("sdkVersion", "9.9.9", version),
		text("createdDate", "gte:"+recently, created), text("updatedDate", "lt:"+recently, updated), text("updatedDate", "gte:"+recently, updated),
	}
}

func executionCases(function words.ID) []listCase {
	recently := time.Now().Add(-24 * time.Hour).UTC()
	of := func(query string, f postgres.ExecutionFilter) listCase {
		return listCase{query, func(ctx context.Context, s *postgres.Store, project words.ID) error {
			_, _, err := s.Executions(ctx, project, f, postgres.Page{Limit: pageOfList})
			return err
		}}
	}
	is := func(op words.Op, value string) words.Condition {
		return words.Condition{Op: op, Values: []string{value}}
	}
	unfailed := slices.DeleteFunc(slices.Clone(words.Statuses), func(s words.Status) bool { return s == words.Failed })
	at := recently.Format(time.RFC3339)
	return []listCase{
		of("", postgres.ExecutionFilter{}),
		of("functionId="+string(function), postgres.ExecutionFilter{FunctionID: function}),
		of("version=2", postgres.ExecutionFilter{Version: is(words.Eq, "2")}), of("version=gt:98", postgres.ExecutionFilter{Version: is(words.Gt, "98")}),
		of("status=succeeded", postgres.ExecutionFilter{Statuses: []words.Status{words.Succeeded}}), of("status=failed", postgres.ExecutionFilter{Statuses: []words.Status{words.Failed}}),
		of("status=running", postgres.ExecutionFilter{Statuses: []words.Status{words.Running}}), of("status=lost", postgres.ExecutionFilter{Statuses: []words.Status{words.Lost}}),
		of("status=in:failed,lost", postgres.ExecutionFilter{Statuses: []words.Status{words.Failed, words.Lost}}), of("status=neq:failed", postgres.ExecutionFilter{Statuses: unfailed}),
		of("lane=express", postgres.ExecutionFilter{Lane: words.Express}), of("target=gpu", postgres.ExecutionFilter{Target: words.GPU}),
		of("alias=prod", postgres.ExecutionFilter{Alias: "prod"}), of("retryOf="+string(function), postgres.ExecutionFilter{RetryOf: function}),
		of("tags=paper", postgres.ExecutionFilter{Tags: []string{"paper"}}), of("tags=paper,figure", postgres.ExecutionFilter{Tags: []string{"paper", "figure"}}), of("tags=nothing", postgres.ExecutionFilter{Tags: []string{"nothing"}}),
		of("description=has:nightly", postgres.ExecutionFilter{Description: is(words.Has, "nightly")}),
		of("createdDate=lt:"+at, postgres.ExecutionFilter{CreatedDate: is(words.Lt, at)}),
		of("since="+at, postgres.ExecutionFilter{Since: recently}), of("until="+at, postgres.ExecutionFilter{Until: recently}),
	}
}

// measureLists fills the product's database and reads a page with each filter:
// over HTTP, by the store's own method, and beside them by a plain select.
func (c config) measureLists(ctx context.Context, p *product) []result {
	results, err := c.readLists(ctx, p)
	if err != nil {
		results = append(results, result{Question: lists, Case: "lists", Peer: overHTTP}.failed(err))
	}
	return results
}

func (c config) readLists(ctx context.Context, p *product) ([]result, error) {
	operator := p.as(p.token)
	var made struct{ ID words.ID }
	if err := operator.server.post(ctx, "/v1/projects", object{"name": unique("lists")}, &made); err != nil {
		return nil, err
	}
	var token struct{ Token string }
	if err := operator.server.post(ctx, "/v1/tokens", object{"projectId": made.ID, "role": "member", "name": "bench"}, &token); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, p.postgres)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	say("making 100,000 functions and 1,000,000 executions")
	if err := fillLists(ctx, conn, made.ID); err != nil {
		return nil, err
	}
	var function words.ID
	if err := conn.QueryRow(ctx, `select id from functions where name = $1 and project_id = $2`, busy, made.ID).Scan(&function); err != nil {
		return nil, err
	}
	store, err := postgres.Open(ctx, p.postgres)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	say("measuring lists")
	server := p.as(token.Token).server
	var results []result
	for _, list := range []struct {
		table, slowest string
		cases          []listCase
	}{{"functions", slowestFunctions, functionCases()}, {"executions", slowestExecutions, executionCases(function)}} {
		var slowest result
		for _, lc := range list.cases {
			title := strings.TrimSuffix(list.table+": "+lc.query, ": ")
			path := "/v1/" + list.table + "?" + escaped(lc.query)
			var page struct{ Items []struct{ ID string } }
			r := c.measureList(ctx, title, overHTTP, func(ctx context.Context) error { return server.get(ctx, path, &page) })
			results = append(results, r)
			if r.Error == "" && r.P50 > slowest.P50 {
				slowest = r
			}
			results = append(results, c.measureList(ctx, title, inStore, func(ctx context.Context) error { return lc.store(ctx, store, made.ID) }))
			results = append(results, c.measureList(ctx, title, plain, func(ctx context.Context) error {
				rows, err := conn.Query(ctx, `select * from `+list.table+` where project_id = $1 order by id desc limit 50`, made.ID)
				if err != nil {
					return err
				}
				_, err = pgx.CollectRows(rows, pgx.RowToMap)
				return err
			}))
		}
		slowest.Case = list.slowest
		results = append(results, slowest)
	}
	return results, nil
}

// escaped is a query whose value may hold anything.
func escaped(query string) string {
	name, value, ok := strings.Cut(query, "=")
	if !ok {
		return "limit=50"
	}
	return name + "=" + url.QueryEscape(value)
}

// measureList reads a page again and again.
func (c config) measureList(ctx context.Context, title, peer string, read func(context.Context) error) result {
	r := result{Question: lists, Case: title, Peer: peer, NoiseBefore: settle(ctx, min(c.quiet, 100*time.Millisecond))}
	before := readUsage()
	o, err := drive(ctx, load{outstanding: 1, calls: listCalls, time: listTime}, func(ctx context.Context) (call, error) {
		began := time.Now()
		err := read(ctx)
		return call{Total: float64(time.Since(began)) / float64(time.Millisecond)}, err
	})
	if err == nil {
		r.NoiseDuring = readUsage().othersSince(before)
		r.fill(o)
		r.Circuit = 0
	}
	return r.failed(err)
}

// fillLists runs lists.sql for a project.
func fillLists(ctx context.Context, conn *pgx.Conn, project words.ID) error {
	ctx, cancel := context.WithTimeout(ctx, fillTime)
	defer cancel()
	for statement := range strings.SplitSeq(strings.ReplaceAll(filling, "$P", string(project)), ";\n") {
		if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("filling: %w: %.200s", err, statement)
		}
	}
	return nil
}
