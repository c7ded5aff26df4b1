// Package cli is the command line client.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

// Env is what the client takes from its surroundings.
type Env struct {
	API       string // URL of the server; that of the last login unless set
	Token     string // that of the last login unless set
	ConfigDir string // folder for a login, such as os.UserConfigDir; empty: there is none
	Plain     bool   // no colours, and no line that is drawn again
}

// defaultAPI is where "warpket dev" serves if it can.
const defaultAPI = "http://127.0.0.1:8080"

// app is what the verbs share.
type app struct {
	env  Env
	json bool // --json: what the API answers, and nothing else
	in   io.Reader
	out  *screen // results
	err  *screen // all else
	note *screen // what is said on the way; nothing with --json
}

// AddTo adds the client's verbs to a command.
func AddTo(root *cobra.Command, env Env) {
	a := &app{env: env}
	root.AddGroup(&cobra.Group{ID: "use", Title: "Use warpket:"})
	for _, c := range []*cobra.Command{
		a.loginCommand(), a.templatesCommand(), a.initCommand(), a.deployCommand(), a.runCommand(), a.logsCommand(), a.listCommand(), a.diffCommand(), a.downloadCommand(), a.deleteCommand(),
		a.fleetCommand("nodes", "Show the nodes, and how full they are"), a.fleetCommand("devices", "Show GPUs and simulators, and what they do"),
		a.aliasCommand(), a.scheduleCommand(), a.webhookCommand(), a.secretCommand(), a.tokenCommand(), a.usageCommand(),
	} {
		c.GroupID = "use"
		root.AddCommand(a.verb(c))
	}
	root.AddCommand(exitCodesTopic())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err.Error()} })
	root.Args, root.RunE = unknown, func(c *cobra.Command, _ []string) error { return c.Help() }
}

// verb makes a command ready to run: it knows --json and its streams, and
// errors are told in its way.
func (a *app) verb(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print what the API answers, and errors as problems")
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		a.in, a.out, a.err = c.InOrStdin(), newScreen(c.OutOrStdout(), a.env.Plain), newScreen(c.ErrOrStderr(), a.env.Plain)
		if a.note = a.err; a.json {
			a.note = newScreen(io.Discard, true)
		}
		err := run(c, args)
		if err != nil && a.json {
			return &jsonError{err}
		}
		return err
	}
	return c
}

// unknown refuses a verb that there is not.
func unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2 // letters that may differ
	message := fmt.Sprintf("there is no verb %q", args[0])
	if similar := c.SuggestionsFor(args[0]); len(similar) > 0 {
		message += "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return &usageError{c.CommandPath(), message}
}

// takes checks how many arguments a verb gets. Those in brackets may be left out.
func takes(names ...string) cobra.PositionalArgs {
	needed := 0
	for _, n := range names {
		if !strings.HasPrefix(n, "[") {
			needed++
		}
	}
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < needed:
			return &usageError{c.CommandPath(), fmt.Sprintf("%s is missing: %s", names[len(args)], c.UseLine())}
		case len(args) > len(names):
			return &usageError{c.CommandPath(), fmt.Sprintf("%q is too much: %s", args[len(names)], c.UseLine())}
		}
		return nil
	}
}

// connect makes a client for the server that is meant. A stored token is only
// sent to the server that it was stored for.
func (a *app) connect() (*client.ClientWithResponses, error) {
	stored, err := a.stored()
	if err != nil {
		return nil, err
	}
	token := a.env.Token
	api, err := a.address()
	if err != nil {
		return nil, err
	}
	if token == "" && sameServer(api, stored.API) {
		token = stored.Token
	}
	if token == "" {
		return nil, warpket.Errorf(warpket.Unauthenticated, "no token for %s", api)
	}
	return connect(api, token)
}

// address is the URL of the server that is meant.
func (a *app) address() (string, error) {
	stored, err := a.stored()
	return cmp.Or(a.env.API, stored.API, defaultAPI), err
}

func connect(api, token string) (*client.ClientWithResponses, error) {
	c, err := client.New(api, token)
	if err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "%s", err.Error())
	}
	return c, nil
}

func sameServer(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

// findFunction finds a function by its name or ID.
func findFunction(ctx context.Context, c *client.ClientWithResponses, name string) (client.Function, error) {
	if id, err := warpket.ParseID("function", name); err == nil {
		r, err := c.GetFunctionWithResponse(ctx, string(id))
		if err != nil {
			return client.Function{}, err
		}
		d := r.JSON200
		return client.Function{
			FunctionID: d.FunctionID, FunctionName: d.FunctionName, TemplateLanguageTag: d.TemplateLanguageTag, Description: d.Description,
			SDK: d.SDK, SDKVersion: d.SDKVersion, Entry: d.Entry, Resources: d.Resources, CreatedDate: d.CreatedDate, UpdatedDate: d.UpdatedDate,
		}, nil
	}
	if warpket.CheckName("function", name) != nil { // no function has such a name
		return client.Function{}, noFunction(name)
	}
	r, err := c.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Name: &name})
	if err != nil {
		return client.Function{}, err
	}
	if len(r.JSON200.Items) == 0 {
		return client.Function{}, noFunction(name)
	}
	return r.JSON200.Items[0], nil
}

func noFunction(name string) error {
	return &hinted{warpket.Errorf(warpket.NotFound, "there is no function %q", name), "warpket list functions"}
}

// completion is how long a shell waits for names from the server.
const completion = time.Second

// completeNames completes the first argument with what the server has.
func (a *app) completeNames(names func(context.Context, *client.ClientWithResponses) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		server, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completion)
		defer cancel()
		out, err := names(ctx, server)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func functionNames(ctx context.Context, c *client.ClientWithResponses) ([]string, error) {
	r, err := c.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Limit: new(int64(maxPage))})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range r.JSON200.Items {
		out = append(out, cobra.CompletionWithDesc(f.FunctionName, f.SDK+" "+f.SDKVersion))
	}
	return out, nil
}

func templateTags(ctx context.Context, c *client.ClientWithResponses) ([]string, error) {
	r, err := c.ListTemplatesWithResponse(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range r.JSON200.Items {
		out = append(out, cobra.CompletionWithDesc(t.Tag, t.Description))
	}
	return out, nil
}

// interrupted reports whether a person ended the wait.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
