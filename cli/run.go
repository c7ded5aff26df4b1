package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

func (a *app) runCommand() *cobra.Command {
	var how runHow
	c := &cobra.Command{
		Use:   "run FUNCTION",
		Short: "Execute a function and print its result",
		Long: `Executes a function, named by its name or ID, and prints its result as JSON. Ctrl-C cancels the execution.

The exit code says how it ended: warpket help exit-codes`,
		Example:           "  warpket run bell\n  warpket run bell --shots 4096 --seed 7\n  warpket run bell --input '{\"angle\": 0.5}' --follow\n  warpket run bell --input @parameters.json | jq .counts",
		Args:              takes("FUNCTION"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	flags := c.Flags()
	flags.StringVar(&how.input, "input", "", "what the handler gets as its event: JSON, @FILE, or - for standard input")
	flags.Int64Var(&how.version, "version", 0, "number of the version; the newest unless set")
	flags.Int64Var(&how.shots, "shots", 0, "context.shots of the handler")
	flags.Int64Var(&how.seed, "seed", 0, "seed of its random numbers; chosen unless set")
	flags.StringVar(&how.target, "target", "", "where it is to run: cpu, simulator, gpu, compile or sim")
	flags.Float64Var(&how.timeout, "timeout", 0, "seconds that it may run; the function's unless set")
	flags.BoolVar(&how.async, "async", false, "do not wait: print the ID of the execution")
	flags.BoolVar(&how.follow, "follow", false, "show its log on standard error while it runs")
	c.MarkFlagsMutuallyExclusive("async", "follow")
	c.RunE = func(c *cobra.Command, args []string) error {
		how.seeded = c.Flags().Changed("seed")
		for name, v := range map[string]float64{"version": float64(how.version), "shots": float64(how.shots), "timeout": how.timeout} {
			if c.Flags().Changed(name) && v <= 0 {
				return &usageError{c.CommandPath(), "--" + name + " is more than 0"}
			}
		}
		return a.run(c, args[0], how)
	}
	return c
}

// runHow is how a function is executed.
type runHow struct {
	input, target        string
	version, shots, seed int64
	timeout              float64
	seeded               bool
	async, follow        bool
}

func (a *app) run(c *cobra.Command, name string, how runHow) error {
	request, err := a.request(c, how)
	if err != nil {
		return err
	}
	server, err := a.connect()
	if err != nil {
		return err
	}
	f, err := findFunction(c.Context(), server, name)
	if err != nil {
		return err
	}
	request.FunctionID = f.FunctionID
	e, body, err := a.execute(c.Context(), server, request, how)
	if err != nil {
		return err
	}
	if how.async && !final(e.Status) {
		return a.printStarted(e, body)
	}
	if a.json {
		if err := a.print(body); err != nil {
			return err
		}
	}
	if e.Status != client.ExecutionStatusSucceeded {
		return &executionError{e}
	}
	if a.json {
		return nil
	}
	return a.printResult(c.Context(), server, e)
}

// request makes a request from flags.
func (a *app) request(c *cobra.Command, how runHow) (client.CreateExecutionRequest, error) {
	out := client.CreateExecutionRequest{Version: how.version, Shots: how.shots, Target: client.CreateExecutionRequestTarget(how.target)}
	if how.seeded {
		out.Seed = &how.seed
	}
	out.Resources.Timeout = how.timeout
	var err error
	out.Input, err = a.readInput(c, how.input)
	return out, err
}

// readInput reads the value of --input: JSON, @FILE, or - for standard input.
func (a *app) readInput(c *cobra.Command, text string) (input []byte, err error) {
	switch {
	case text == "-":
		input, err = io.ReadAll(a.in)
	case strings.HasPrefix(text, "@"):
		input, err = os.ReadFile(text[1:])
	case text != "":
		input = []byte(text)
	}
	if err != nil {
		return nil, warpket.Because(warpket.Invalid, err, "the input cannot be read: %v", err)
	}
	if text != "" && !json.Valid(input) {
		return nil, &usageError{c.CommandPath(), "the input is not JSON; a text is written with quotes: --input '\"text\"'"}
	}
	return input, nil
}

// Holds of requests.
const (
	firstHold = "wait=1"  // most executions end within it, and then one request was enough
	nextHold  = "wait=30" // less than what proxies cut
)

// grace is how long an interrupted wait goes on for an answer that is due.
const grace = 5 * time.Second

// execute starts an execution and, unless it is not to, waits until it is
// final. When the wait is interrupted it is cancelled.
func (a *app) execute(ctx context.Context, server *client.ClientWithResponses, request client.CreateExecutionRequest, how runHow) (client.Execution, []byte, error) {
	params := &client.CreateExecutionParams{Prefer: new(firstHold)}
	if how.async || how.follow {
		params.Prefer, request.Sync = nil, new(false)
	}
	p := (&screen{Writer: io.Discard, plain: true}).progress("")
	if !how.async && !how.follow && a.note.terminal {
		p = a.note.progress("starting")
	}
	e, body, err := start(ctx, server, params, request)
	if err != nil || how.async {
		p.end()
		return e, body, err
	}
	logged := func() {}
	if how.follow {
		logged = a.followBeside(ctx, server, e.ID)
	}
	e, body, err = await(ctx, server, e, body, p)
	p.end()
	if interrupted(ctx) && !final(e.Status) {
		a.note.printf("cancelling %s", e.ID)
		e, body, err = cancelled(ctx, server, e.ID)
	}
	if err != nil {
		return e, body, &hinted{err, "warpket logs " + e.ID + " -f"}
	}
	logged()
	if a.note.terminal {
		a.note.printf("%s", a.note.paint(quiet, summary(e)))
	}
	return e, body, nil
}

// start asks for an execution. Its answer is read even when the wait is
// interrupted, for only then is it known what to cancel.
func start(ctx context.Context, server *client.ClientWithResponses, params *client.CreateExecutionParams, request client.CreateExecutionRequest) (client.Execution, []byte, error) {
	unhurried, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	r, err := server.CreateExecutionWithResponse(unhurried, params, request)
	if err != nil {
		return client.Execution{}, nil, err
	}
	if r.JSON202 != nil {
		return *r.JSON202, r.Body, nil
	}
	return *r.JSON200, r.Body, nil
}

// await waits until an execution is final.
func await(ctx context.Context, server *client.ClientWithResponses, e client.Execution, body []byte, p *progress) (client.Execution, []byte, error) {
	for !final(e.Status) {
		p.say(string(e.Status))
		r, err := server.GetExecutionWithResponse(ctx, e.ID, &client.GetExecutionParams{Prefer: new(nextHold)})
		if err != nil {
			return e, body, err
		}
		e, body = *r.JSON200, r.Body
	}
	return e, body, nil
}

// cancelled cancels an execution, though the wait for it is over.
func cancelled(ctx context.Context, server *client.ClientWithResponses, id string) (client.Execution, []byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*grace)
	defer cancel()
	r, err := server.CancelExecutionWithResponse(ctx, id, &client.CancelExecutionParams{Prefer: new("wait=5")})
	if err != nil {
		return client.Execution{ID: id}, nil, fmt.Errorf("cancelling %s: %w", id, err)
	}
	e := r.JSON200
	if e == nil {
		e = r.JSON202
	}
	if !final(e.Status) {
		return *e, r.Body, warpket.Errorf(warpket.Unavailable, "execution %s is being cancelled", id)
	}
	return *e, r.Body, nil
}

func final(s client.ExecutionStatus) bool { return warpket.Status(s).Final() }

// summary tells in a line how an execution went.
func summary(e client.Execution) string {
	parts := []string{string(e.Status)}
	if e.Timings.TotalMs > 0 {
		parts = append(parts, fmt.Sprintf("%s, of which it ran %s", duration(milliseconds(e.Timings.TotalMs)), duration(milliseconds(e.Timings.RanMs))))
	}
	if e.Placement.Node != "" {
		parts = append(parts, "on "+e.Placement.Node)
	}
	return strings.Join(append(parts, fmt.Sprintf("seed %d", e.Seed), e.ID), " · ")
}

// printStarted tells of an execution that goes on.
func (a *app) printStarted(e client.Execution, body []byte) error {
	if a.json {
		return a.print(body)
	}
	a.out.printf("%s", e.ID)
	a.next("warpket logs " + e.ID + " -f")
	return nil
}

// printResult prints a result: for people with a chart if it has counts.
func (a *app) printResult(ctx context.Context, server *client.ClientWithResponses, e client.Execution) error {
	if e.ResultURL != "" {
		resp, err := server.GetExecutionResult(ctx, e.ID)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(a.out, resp.Body); err != nil {
			return fmt.Errorf("reading the result: %w", err)
		}
		a.out.printf("")
		return nil
	}
	var text bytes.Buffer
	var err error
	if a.out.terminal {
		err = json.Indent(&text, e.Result, "", "  ")
	} else {
		err = json.Compact(&text, e.Result)
	}
	if err != nil {
		return fmt.Errorf("reading the result: %w", err)
	}
	a.out.printf("%s", text.Bytes())
	if c := counts(e.Result); a.out.terminal && len(c) > 0 {
		a.out.printf("")
		a.out.histogram(c)
	}
	return nil
}
