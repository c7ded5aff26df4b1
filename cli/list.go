package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/warpket/warpket/clients/go"
)

// listing is one kind of thing that can be listed.
type listing struct {
	name   string
	header string
	// filters are the flags that narrow it
	filters []string
	// ofFunction says that --function is needed
	ofFunction bool
	read       func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error)
	rows       func(items []json.RawMessage, now time.Time) ([][]string, error)
}

// filter is what a list is narrowed to, and which page of it is read.
type filter struct {
	function, status string
	cursor           *string
	limit            *int64
}

func (a *app) listCommand() *cobra.Command {
	var function, status string
	var limit int
	var names []string
	for _, l := range listings() {
		names = append(names, l.name)
	}
	c := &cobra.Command{
		Use:       "list [" + strings.Join(names, "|") + "]",
		Short:     "List functions, or other things",
		Args:      takes("[WHAT]"),
		ValidArgs: names,
	}
	c.Flags().StringVar(&function, "function", "", "only those of this function: executions, deployments, versions, workers, aliases, webhooks, schedules")
	c.Flags().StringVar(&status, "status", "", "only those with this status: executions, deployments, schedules")
	c.Flags().IntVar(&limit, "limit", 50, "how many at most")
	c.RunE = func(c *cobra.Command, args []string) error {
		what := "functions"
		if len(args) == 1 {
			what = args[0]
		}
		i := slices.IndexFunc(listings(), func(l listing) bool { return l.name == what })
		if i < 0 {
			return &usageError{c.CommandPath(), fmt.Sprintf("%q cannot be listed; these can: %s", what, strings.Join(names, ", "))}
		}
		l := listings()[i]
		for _, flag := range []string{"function", "status"} {
			if c.Flags().Changed(flag) && !slices.Contains(l.filters, flag) {
				return &usageError{c.CommandPath(), fmt.Sprintf("--%s is not for %s", flag, what)}
			}
		}
		if l.ofFunction && function == "" {
			return &usageError{c.CommandPath(), fmt.Sprintf("--function is missing: %s are those of one function", what)}
		}
		if limit < 1 {
			return &usageError{c.CommandPath(), "--limit is at least 1"}
		}
		return a.list(c.Context(), l, function, status, limit)
	}
	return c
}

func (a *app) list(ctx context.Context, l listing, function, status string, limit int) error {
	server, err := a.connect()
	if err != nil {
		return err
	}
	f := filter{status: status}
	if function != "" {
		found, err := findFunction(ctx, server, function)
		if err != nil {
			return err
		}
		f.function = found.FunctionID
	}
	all, err := gather(limit, func(cursor *string, limit *int64) ([]byte, error) {
		f.cursor, f.limit = cursor, limit
		return l.read(ctx, server, f)
	})
	if err != nil {
		return err
	}
	if a.json {
		b, err := json.Marshal(all)
		if err != nil {
			return err
		}
		return a.print(b)
	}
	rows, err := l.rows(all.Items, time.Now())
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		a.note.printf("there are no %s", l.name)
		return nil
	}
	a.out.table(l.header, rows)
	if all.NextCursor != "" {
		a.note.printf("\nthere are more: --limit %d", 2*limit)
	}
	return nil
}

// listings are what can be listed.
func listings() []listing {
	return []listing{
		{
			name: "functions", header: "NAME\tTEMPLATE\tSDK\tCHANGED\tID",
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(f client.Function, now time.Time) []string {
				if f.Source == client.FunctionSourceImage {
					return []string{f.FunctionName, "image", f.Image, age(f.UpdatedDate, now), f.FunctionID}
				}
				return []string{f.FunctionName, dash(f.TemplateLanguageTag), dash(strings.TrimSpace(f.SDK + " " + f.SDKVersion)), age(f.UpdatedDate, now), f.FunctionID}
			}),
		},
		{
			name: "versions", header: "VERSION\tDEPLOYED\tEXECUTIONS\tFILES\tCREATED\tDESCRIPTION", filters: []string{"function"}, ofFunction: true,
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListVersionsWithResponse(ctx, f.function, &client.ListVersionsParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(v client.FunctionVersion, now time.Time) []string {
				deployed := map[bool]string{true: "yes", false: "-"}[v.InDeployed]
				return []string{number(float64(v.Version)), deployed, number(float64(v.Executions)), number(float64(len(v.Files))), age(v.CreatedDate, now), clip(v.Description)}
			}),
		},
		{
			name: "workers", header: "VERSION\tSTATUS\tNODE\tDEPLOYMENT\tSINCE\tDEVICES\tID", filters: []string{"function"}, ofFunction: true,
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListWorkersWithResponse(ctx, f.function, &client.ListWorkersParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(w client.Worker, now time.Time) []string {
				return []string{versionText(w.Version), string(w.Status), w.Node, cmp.Or(w.DeploymentID, "on demand"), age(w.Since, now), dash(clip(strings.Join(w.Devices, ", "))), w.SlotID}
			}),
		},
		{
			name: "executions", header: "FUNCTION\tVERSION\tSTATUS\tTARGET\tTOOK\tNODE\tCREATED\tID", filters: []string{"function", "status"},
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListExecutionsWithResponse(ctx, &client.ListExecutionsParams{
					Cursor: f.cursor, Limit: f.limit, FunctionID: given(f.function), Status: given(f.status),
				})
				return body(r, err)
			},
			rows: rowsOf(func(e client.Execution, now time.Time) []string {
				took := "-"
				if e.Timings.TotalMs > 0 {
					took = duration(milliseconds(e.Timings.TotalMs))
				}
				return []string{e.FunctionName, versionText(e.Version), string(e.Status), string(e.Target), took, dash(e.Placement.Node), age(e.CreatedDate, now), e.ID}
			}),
		},
		{
			name: "deployments", header: "FUNCTION\tVERSION\tSTATUS\tREADY\tISOLATION\tCREATED\tID\tMESSAGE", filters: []string{"function", "status"},
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListDeploymentsWithResponse(ctx, &client.ListDeploymentsParams{
					Cursor: f.cursor, Limit: f.limit, FunctionID: given(f.function), Status: given(client.ListDeploymentsParamsStatus(f.status)),
				})
				return body(r, err)
			},
			rows: rowsOf(func(d client.Deployment, now time.Time) []string {
				return []string{d.FunctionName, versionText(d.Version), string(d.Status), fmt.Sprintf("%d of %d", d.Ready, d.Slots), d.Isolation, age(d.CreatedDate, now), d.ID, clip(d.Message)}
			}),
		},
		{
			name: "aliases", header: "NAME\tFUNCTION\tVERSIONS\tCHANGED", filters: []string{"function"},
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListAliasesWithResponse(ctx, &client.ListAliasesParams{Cursor: f.cursor, Limit: f.limit, FunctionID: given(f.function)})
				return body(r, err)
			},
			rows: rowsOf(func(a client.Alias, now time.Time) []string {
				return []string{a.Name, a.FunctionID, shares(a.Versions), age(a.UpdatedDate, now)}
			}),
		},
		{
			name: "webhooks", header: "ID\tEXECUTES\tSIGNATURE\tPER MINUTE\tCHANGED\tDESCRIPTION", filters: []string{"function"},
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListWebhooksWithResponse(ctx, &client.ListWebhooksParams{Cursor: f.cursor, Limit: f.limit, FunctionID: given(f.function)})
				return body(r, err)
			},
			rows: rowsOf(func(w client.Webhook, now time.Time) []string {
				return []string{w.ID, w.Alias + w.FunctionID, string(w.Signature), number(float64(w.RatePerMinute)), age(w.UpdatedDate, now), clip(w.Description)}
			}),
		},
		nodeListing(),
		deviceListing(),
		{
			name: "schedules", header: "ID\tEXECUTES\tWHEN\tSTATUS\tNEXT\tLEFT\tNAME\tMESSAGE", filters: []string{"function", "status"},
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListSchedulesWithResponse(ctx, &client.ListSchedulesParams{Cursor: f.cursor, Limit: f.limit, FunctionID: given(f.function), Status: given(client.ListSchedulesParamsStatus(f.status))})
				return body(r, err)
			},
			rows: rowsOf(func(s client.Schedule, _ time.Time) []string {
				left := "no end"
				if s.Count > 0 || s.Status == client.ScheduleStatusDone { // there is none in the answer without an end
					left = number(float64(s.Count))
				}
				return []string{
					s.ID, cmp.Or(s.Alias, s.FunctionName), cmp.Or(strings.TrimSpace(s.Pattern+" "+s.TimeZone), "once"), string(s.Status),
					dash(strings.TrimPrefix(upcoming(s), ", next at ")), left, dash(clip(s.Name)), clip(s.LastError),
				}
			}),
		},
		{
			name: "tokens", header: "NAME\tROLE\tMEMBER\tFUNCTIONS\tUSED\tEXPIRES\tID",
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListTokensWithResponse(ctx, &client.ListTokensParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(t client.Token, now time.Time) []string {
				functions, used, expires := "all", "never", "never"
				if n := len(t.Functions); n > 0 {
					functions = number(float64(n))
				}
				if !t.LastUsedDate.IsZero() {
					used = age(t.LastUsedDate, now)
				}
				if !t.ExpiresDate.IsZero() {
					expires = t.ExpiresDate.Local().Format(time.DateOnly)
				}
				return []string{t.Name, string(t.Role), dash(t.Member), functions, used, expires, t.ID}
			}),
		},
		{
			name: "secrets", header: "NAME\tCHANGED",
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListSecretsWithResponse(ctx, &client.ListSecretsParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(s client.Secret, now time.Time) []string { return []string{s.Name, age(s.UpdatedDate, now)} }),
		},
		{
			name: "runtimes", header: "NAME\tSDK\tVERSION\tPYTHON\tPLATFORM\tSTATUS\tCHANGED\tID\tMESSAGE",
			read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
				r, err := server.ListRuntimesWithResponse(ctx, &client.ListRuntimesParams{Cursor: f.cursor, Limit: f.limit})
				return body(r, err)
			},
			rows: rowsOf(func(r client.Runtime, now time.Time) []string {
				sdk, version := r.SDK, r.SDKVersion
				if r.Image != "" {
					sdk, version = "image", r.Image
				}
				return []string{dash(clip(r.Name)), sdk, dash(version), dash(r.Python), r.Platform, string(r.Status), age(r.UpdatedDate, now), r.ID, clip(r.Message)}
			}),
		},
	}
}

// shares says which versions an alias stands for, with the part of each.
func shares(routes []client.Route) string {
	sum := int64(0)
	for _, r := range routes {
		sum += r.Weight
	}
	words := make([]string, len(routes))
	for i, r := range routes {
		words[i] = number(float64(r.Version))
		if len(routes) > 1 {
			words[i] += fmt.Sprintf(" (%.3g%%)", 100*float64(r.Weight)/float64(sum))
		}
	}
	return strings.Join(words, ", ")
}

// body is what an answer holds.
func body[R interface{ GetBody() []byte }](r R, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return r.GetBody(), nil
}

// rowsOf makes rows from items of a type.
func rowsOf[T any](row func(T, time.Time) []string) func([]json.RawMessage, time.Time) ([][]string, error) {
	return func(raw []json.RawMessage, now time.Time) ([][]string, error) {
		items, err := decode[T](raw)
		var rows [][]string
		for _, item := range items {
			rows = append(rows, row(item, now))
		}
		return rows, err
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clip shortens a text for a table.
func clip(s string) string {
	const room = 60
	runes := []rune(safe(s))
	if len(runes) > room {
		return string(runes[:room-1]) + "…"
	}
	return string(runes)
}
