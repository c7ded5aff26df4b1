package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

// group is a verb that has verbs of its own.
func (a *app) group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: unknown, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	for _, v := range verbs {
		c.AddCommand(a.verb(v))
	}
	return c
}

// told prints what the API answered, or says to people what was done.
func (a *app) told(body []byte, format string, args ...any) error {
	if a.json {
		return a.print(body)
	}
	a.note.printf("%s "+format, append([]any{a.note.paint(good, "✓")}, args...)...)
	return nil
}

// removed says what was deleted, whose answer is empty.
func (a *app) removed(format string, args ...any) error {
	return a.told([]byte("{}"), format, args...)
}

// is reports whether an error is an answer with a code.
func is(err error, code client.ProblemCode) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Code == code
}

// listVerb lists things of a kind, as "warpket list" does.
func (a *app) listVerb(what string) *cobra.Command {
	var limit int
	c := &cobra.Command{Use: "list", Short: "List " + what, Args: takes()}
	c.Flags().IntVar(&limit, "limit", 50, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 {
			return &usageError{c.CommandPath(), "--limit is at least 1"}
		}
		all := listings()
		return a.list(c.Context(), all[slices.IndexFunc(all, func(l listing) bool { return l.name == what })], "", "", limit)
	}
	return c
}

// target is what an alias, a webhook or a schedule executes: a function that was
// named, or what --alias says.
func target(c *cobra.Command, server *client.ClientWithResponses, name, alias string) (function string, err error) {
	if (name == "") == (alias == "") {
		return "", &usageError{c.CommandPath(), "name a function, or an alias with --alias"}
	}
	if alias != "" {
		return "", nil
	}
	f, err := findFunction(c.Context(), server, name)
	return f.FunctionID, err
}

// argument is the argument at a place; empty if there is none.
func argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func (a *app) tokenCommand() *cobra.Command {
	return a.group("token", "Create, list and revoke tokens", a.tokenCreateCommand(), a.listVerb("tokens"), a.tokenRevokeCommand())
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var request client.CreateTokenRequest
	var role string
	var functions []string
	var days int
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a token",
		Long:    "Creates a token and prints it: it is shown only now.",
		Example: "  warpket token create notebook\n  warpket token create ci --role member --function bell --days 30",
		Args:    takes("NAME"),
	}
	c.Flags().StringVar(&role, "role", string(client.CreateTokenRequestRoleMember), "what it may do: viewer, member or admin")
	c.Flags().StringVar(&request.Member, "member", "", "the member it is for")
	c.Flags().StringSliceVar(&functions, "function", nil, "the only functions it reaches, by name or ID")
	c.Flags().IntVar(&days, "days", 0, "after how many days it ceases to hold; never unless set")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.connect()
		if err != nil {
			return err
		}
		request.Name, request.Role = args[0], client.CreateTokenRequestRole(role)
		if days < 0 {
			return &usageError{c.CommandPath(), "--days is at least 1"}
		}
		if days > 0 {
			request.ExpiresDate = time.Now().AddDate(0, 0, days)
		}
		for _, name := range functions {
			f, err := findFunction(c.Context(), server, name)
			if err != nil {
				return err
			}
			request.Functions = append(request.Functions, f.FunctionID)
		}
		r, err := server.CreateTokenWithResponse(c.Context(), request)
		if err != nil {
			return err
		}
		if a.json {
			return a.print(r.Body)
		}
		a.out.printf("%s", r.JSON200.Token)
		a.note.printf("%s created %s, %s; it is not shown again", a.note.paint(good, "✓"), request.Name, r.JSON200.ID)
		return nil
	}
	return c
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN", Short: "Revoke a token", Long: "Revokes a token, which is named by its ID, or by its name if only one has it.", Args: takes("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			id, err := findToken(c.Context(), server, args[0])
			if err != nil {
				return err
			}
			if _, err := server.DeleteTokenWithResponse(c.Context(), id); err != nil {
				return err
			}
			return a.removed("revoked %s", args[0])
		},
	}
}

// findToken finds a token by its ID or its name.
func findToken(ctx context.Context, server *client.ClientWithResponses, name string) (string, error) {
	if id, err := warpket.ParseID("token", name); err == nil {
		return string(id), nil
	}
	all, err := gather(0, func(cursor *string, limit *int64) ([]byte, error) {
		r, err := server.ListTokensWithResponse(ctx, &client.ListTokensParams{Cursor: cursor, Limit: limit})
		return body(r, err)
	})
	if err != nil {
		return "", err
	}
	tokens, err := decode[client.Token](all.Items)
	if err != nil {
		return "", err
	}
	tokens = slices.DeleteFunc(tokens, func(t client.Token) bool { return t.Name != name })
	switch len(tokens) {
	case 0:
		return "", &hinted{warpket.Errorf(warpket.NotFound, "there is no token %q", name), "warpket token list"}
	case 1:
		return tokens[0].ID, nil
	}
	return "", &hinted{warpket.Errorf(warpket.Conflict, "%d tokens are called %q: name one by its ID", len(tokens), name), "warpket token list"}
}

func (a *app) scheduleCommand() *cobra.Command {
	state := func(use, short string, to client.UpdateScheduleRequestStatus) *cobra.Command {
		return &cobra.Command{
			Use: use + " SCHEDULE", Short: short, Args: takes("SCHEDULE"),
			RunE: func(c *cobra.Command, args []string) error {
				server, err := a.connect()
				if err != nil {
					return err
				}
				r, err := server.UpdateScheduleWithResponse(c.Context(), args[0], nil, client.UpdateScheduleRequest{Status: to})
				if err != nil {
					return err
				}
				return a.told(r.Body, "%s is %s%s", args[0], r.JSON200.Status, upcoming(*r.JSON200))
			},
		}
	}
	remove := &cobra.Command{
		Use: "delete SCHEDULE", Short: "Delete a schedule; what it has executed stays", Args: takes("SCHEDULE"),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := server.DeleteScheduleWithResponse(c.Context(), args[0]); err != nil {
				return err
			}
			return a.removed("deleted %s", args[0])
		},
	}
	return a.group("schedule", "Execute functions at times to come", a.scheduleCreateCommand(), a.listVerb("schedules"),
		state("pause", "Stop a schedule for now", client.UpdateScheduleRequestStatusPaused), state("resume", "Resume a schedule", client.UpdateScheduleRequestStatusRunning), remove)
}

// upcoming says when a schedule fires next.
func upcoming(s client.Schedule) string {
	if s.NextExecutionTime.IsZero() {
		return ""
	}
	return ", next at " + s.NextExecutionTime.Local().Format("2006-01-02 15:04:05 MST")
}

func (a *app) scheduleCreateCommand() *cobra.Command {
	var request client.CreateScheduleRequest
	var input, at string
	c := &cobra.Command{
		Use:               "create [FUNCTION]",
		Short:             "Schedule a function, or what an alias stands for",
		Example:           "  warpket schedule create bell --pattern '30 8 * * MON-FRI' --time-zone Europe/Berlin\n  warpket schedule create --alias bell-prod --at 2027-01-01T00:00:00Z",
		Args:              takes("[FUNCTION]"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	c.Flags().StringVar(&request.Pattern, "pattern", "", "when: minute, hour, day, month and weekday, or @hourly, @daily, ...")
	c.Flags().StringVar(&at, "at", "", "the first time, such as 2027-01-01T00:00:00Z; without a pattern the only one")
	c.Flags().StringVar(&request.TimeZone, "time-zone", "", "time zone of the pattern, such as Europe/Berlin; UTC unless set")
	c.Flags().Int64Var(&request.Count, "count", 0, "how often; without end unless set")
	c.Flags().StringVar(&request.Alias, "alias", "", "the alias to execute, instead of a function")
	c.Flags().Int64Var(&request.Version, "version", 0, "the version to execute; the newest when it fires unless set")
	c.Flags().StringVar(&request.Name, "name", "", "what you call it")
	c.Flags().StringVar(&input, "input", "", "JSON, @FILE, or - for standard input")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := a.readInput(c, input)
		if err != nil {
			return err
		}
		if len(b) > 0 {
			request.Input = json.RawMessage(b)
		}
		if at != "" {
			if request.FirstExecutionTime, err = time.Parse(time.RFC3339, at); err != nil {
				return &usageError{c.CommandPath(), fmt.Sprintf("--at is a time such as 2027-01-01T00:00:00Z, not %q", at)}
			}
		}
		server, err := a.connect()
		if err != nil {
			return err
		}
		if request.FunctionID, err = target(c, server, argument(args, 0), request.Alias); err != nil {
			return err
		}
		r, err := server.CreateScheduleWithResponse(c.Context(), request)
		if err != nil {
			return err
		}
		if a.json {
			return a.print(r.Body)
		}
		a.out.printf("%s", r.JSON200.ID)
		a.note.printf("%s scheduled %s%s", a.note.paint(good, "✓"), r.JSON200.FunctionName, upcoming(*r.JSON200))
		return nil
	}
	return c
}

func (a *app) aliasCommand() *cobra.Command {
	set := &cobra.Command{
		Use:     "set NAME FUNCTION VERSION[:WEIGHT]...",
		Short:   "Have a name stand for a version, or for several with weights",
		Long:    "Creates the alias, or changes what it stands for. Of several versions each execution runs one, chosen at random by weight.",
		Example: "  warpket alias set bell-prod bell 3\n  warpket alias set bell-prod bell 3:90 4:10",
		Args: func(c *cobra.Command, args []string) error {
			return takes("NAME", "FUNCTION", "VERSION")(c, args[:min(len(args), 3)])
		},
		RunE: func(c *cobra.Command, args []string) error {
			routes, err := parseRoutes(c, args[2:])
			if err != nil {
				return err
			}
			server, err := a.connect()
			if err != nil {
				return err
			}
			f, err := findFunction(c.Context(), server, args[1])
			if err != nil {
				return err
			}
			answer, err := setAlias(c.Context(), server, args[0], f.FunctionID, routes)
			if err != nil {
				return err
			}
			return a.told(answer, "%s stands for %s of %s", args[0], shares(routes), f.FunctionName)
		},
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete an alias", Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := server.DeleteAliasWithResponse(c.Context(), args[0]); err != nil {
				return err
			}
			return a.removed("deleted %s", args[0])
		},
	}
	return a.group("alias", "Have names stand for versions", set, a.listVerb("aliases"), remove)
}

// parseRoutes reads versions with their weights.
func parseRoutes(c *cobra.Command, texts []string) ([]client.Route, error) {
	routes := make([]client.Route, len(texts))
	for i, text := range texts {
		version, weight, weighted := strings.Cut(text, ":")
		n, err := versionNumber(c, version)
		if err == nil && n == warpket.DraftNumber {
			err = &usageError{c.CommandPath(), "an alias stands for versions: publish the draft first"}
		}
		if err != nil {
			return nil, err
		}
		routes[i] = client.Route{Version: n, Weight: 1}
		if !weighted {
			continue
		}
		if routes[i].Weight, err = strconv.ParseInt(weight, 10, 32); err != nil || routes[i].Weight < 0 {
			return nil, &usageError{c.CommandPath(), fmt.Sprintf("%q is no weight: %s is VERSION:WEIGHT", weight, text)}
		}
	}
	return routes, nil
}

// setAlias changes an alias, or creates it when there is none.
func setAlias(ctx context.Context, server *client.ClientWithResponses, name, function string, routes []client.Route) ([]byte, error) {
	updated, err := server.UpdateAliasWithResponse(ctx, name, nil, client.UpdateAliasRequest{FunctionID: function, Versions: routes})
	if !is(err, client.ProblemCodeNotFound) {
		return body(updated, err)
	}
	created, err := server.CreateAliasWithResponse(ctx, client.CreateAliasRequest{Name: name, FunctionID: function, Versions: routes})
	return body(created, err)
}

func (a *app) webhookCommand() *cobra.Command {
	remove := &cobra.Command{
		Use: "delete WEBHOOK", Short: "Delete a webhook", Args: takes("WEBHOOK"),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := server.DeleteWebhookWithResponse(c.Context(), args[0]); err != nil {
				return err
			}
			return a.removed("deleted %s", args[0])
		},
	}
	return a.group("webhook", "Let others execute functions by a URL", a.webhookCreateCommand(), a.listVerb("webhooks"), remove)
}

func (a *app) webhookCreateCommand() *cobra.Command {
	var request client.WebhookSettings
	var signature string
	c := &cobra.Command{
		Use:               "create [FUNCTION]",
		Short:             "Create a webhook for a function or an alias",
		Long:              "Prints the URL that executes it, without a token. With --signature, requests have to be signed with a secret of 16 to 256 bytes, which is read from standard input.",
		Example:           "  warpket webhook create bell\n  openssl rand -hex 32 | tee secret | warpket webhook create --alias bell-prod --signature github",
		Args:              takes("[FUNCTION]"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	c.Flags().StringVar(&request.Alias, "alias", "", "the alias to execute, instead of a function")
	c.Flags().Int64Var(&request.Version, "version", 0, "the version to execute; the newest then unless set")
	c.Flags().StringVar(&signature, "signature", "", "how requests are signed: warpket or github")
	c.Flags().Int64Var(&request.RatePerMinute, "rate", 0, "requests that each server lets through in a minute; 60 unless set")
	c.Flags().BoolVar(&request.Sync, "sync", false, "whoever calls waits for the result and gets it")
	c.Flags().StringVar(&request.Description, "description", "", "what it is for")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.connect()
		if err != nil {
			return err
		}
		if request.FunctionID, err = target(c, server, argument(args, 0), request.Alias); err != nil {
			return err
		}
		if signature != "" {
			request.Signature = client.WebhookSettingsSignature(signature)
			if request.Secret, err = a.ask("the secret"); err != nil {
				return err
			}
		}
		r, err := server.CreateWebhookWithResponse(c.Context(), request)
		if err != nil {
			return err
		}
		if a.json {
			return a.print(r.Body)
		}
		address, err := a.address()
		if err != nil {
			return err
		}
		a.out.printf("%s%s", strings.TrimRight(address, "/"), r.JSON200.URL)
		return nil
	}
	return c
}

func (a *app) secretCommand() *cobra.Command {
	set := &cobra.Command{
		Use: "set NAME", Short: "Set a secret to what is on standard input", Long: "Creates the secret, or changes its value, which is read from standard input: all of it, without the newline at its end. It is never shown.",
		Example: "  warpket secret set IBM_TOKEN < token.txt", Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			value, err := a.ask("the value of " + args[0])
			if err != nil {
				return err
			}
			server, err := a.connect()
			if err != nil {
				return err
			}
			updated, err := server.UpdateSecretWithResponse(c.Context(), args[0], &client.UpdateSecretParams{}, client.UpdateSecretRequest{Value: value})
			answer, err := body(updated, err)
			if is(err, client.ProblemCodeNotFound) {
				created, failed := server.CreateSecretWithResponse(c.Context(), client.CreateSecretRequest{Name: args[0], Value: value})
				answer, err = body(created, failed)
			}
			if err != nil {
				return err
			}
			return a.told(answer, "set %s", args[0])
		},
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete a secret that nothing refers to", Args: takes("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := server.DeleteSecretWithResponse(c.Context(), args[0]); err != nil {
				return err
			}
			return a.removed("deleted %s", args[0])
		},
	}
	return a.group("secret", "Keep values that functions get and nobody reads back", set, a.listVerb("secrets"), remove)
}

func (a *app) usageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "usage", Short: "Show what the project uses, and what it may", Long: "Shows how much of its quota the project has used, and what each function has used in this month.", Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			quota, err := server.GetQuotasWithResponse(c.Context())
			if err != nil {
				return err
			}
			used, err := gather(0, func(cursor *string, limit *int64) ([]byte, error) {
				r, err := server.GetUsageWithResponse(c.Context(), &client.GetUsageParams{Cursor: cursor, Limit: limit, By: new(client.GetUsageParamsByFunction)})
				return body(r, err)
			})
			if err != nil {
				return err
			}
			if a.json {
				b, err := json.Marshal(map[string]any{"quota": json.RawMessage(quota.Body), "usage": used.Items})
				if err != nil {
					return err
				}
				return a.print(b)
			}
			return a.printUsage(c.Context(), server, quota.Body, used.Items)
		},
	}
}

// bounds are the limits of a quota in the order in which they are shown, with
// what they are called and whether they are bytes.
var bounds = []struct {
	limit warpket.Limit
	name  string
	bytes bool
}{
	{warpket.FunctionLimit, "functions", false},
	{warpket.SlotLimit, "slots", false},
	{warpket.ExecutionLimit, "executions open", false},
	{warpket.WaitingLimit, "executions waiting", false},
	{warpket.CPULimit, "CPU seconds this month", false},
	{warpket.GPULimit, "GPU seconds this month", false},
	{warpket.StorageLimit, "stored", true},
}

// usageCells is how many cells a bar of usage has.
const usageCells = 24

func (a *app) printUsage(ctx context.Context, server *client.ClientWithResponses, quota []byte, items []json.RawMessage) error {
	var q struct {
		Limits, Used map[warpket.Limit]*int64 // the client's own type does not tell 0 from what is not bounded
	}
	if err := json.Unmarshal(quota, &q); err != nil {
		return fmt.Errorf("reading the quota: %w", err)
	}
	for _, b := range bounds {
		used := int64(0)
		if n := q.Used[b.limit]; n != nil {
			used = *n
		}
		text := func(n int64) string {
			if b.bytes {
				return size(n)
			}
			return strconv.FormatInt(n, 10)
		}
		limit := q.Limits[b.limit]
		if limit == nil {
			a.out.printf("  %-22s %10s", b.name, text(used))
			continue
		}
		part, colour := float64(used)/float64(max(*limit, 1)), busy
		if used >= *limit {
			part, colour = 1, bad
		}
		a.out.printf("  %-22s %10s of %-10s %s %3.0f %%", b.name, text(used), text(*limit), a.out.paint(colour, gauge(used, *limit, usageCells)), 100*part)
	}
	rows, err := a.usageRows(ctx, server, items)
	if err != nil || len(rows) == 0 {
		return err
	}
	a.out.printf("")
	a.out.table("FUNCTION\tEXECUTIONS\tCPU SECONDS\tGPU SECONDS\tSLOT SECONDS\tSHARE OF CPU", rows)
	return nil
}

// usageRows tells what each function has used.
func (a *app) usageRows(ctx context.Context, server *client.ClientWithResponses, items []json.RawMessage) ([][]string, error) {
	used, err := decode[client.Used](items)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	names := map[string]string{}
	all, err := gather(0, func(cursor *string, limit *int64) ([]byte, error) {
		r, err := server.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Cursor: cursor, Limit: limit})
		return body(r, err)
	})
	if err != nil {
		return nil, err
	}
	functions, err := decode[client.Function](all.Items)
	if err != nil {
		return nil, err
	}
	for _, f := range functions {
		names[f.FunctionID] = f.FunctionName
	}
	most := 0.0
	for _, u := range used {
		most = max(most, u.CPUSeconds)
	}
	var rows [][]string
	for _, u := range used {
		name := names[u.FunctionID]
		if name == "" {
			name = u.FunctionID // it was deleted
		}
		share := ""
		if most > 0 {
			share = bar(u.CPUSeconds / most * usageCells)
		}
		executions := u.Succeeded + u.Failed + u.Cancelled + u.TimedOut + u.Lost
		rows = append(rows, []string{name, strconv.FormatInt(executions, 10), fmt.Sprintf("%.1f", u.CPUSeconds), fmt.Sprintf("%.1f", u.GpuSeconds), fmt.Sprintf("%.1f", u.SlotSeconds), share})
	}
	return rows, nil
}

// maxAsked is how many bytes of standard input a secret may have.
const maxAsked = 1 << 20

// ask reads a secret: from a terminal without showing it, else all there is,
// without the newline at its end.
func (a *app) ask(what string) (string, error) {
	if typed, ok, err := a.askTerminal(what); ok {
		return typed, err
	}
	b, err := io.ReadAll(io.LimitReader(a.in, maxAsked))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 {
		return "", warpket.Errorf(warpket.Invalid, "%s was not on standard input", what)
	}
	return string(b), nil
}
