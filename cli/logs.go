package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:               "logs EXECUTION|FUNCTION",
		Short:             "Print what an execution wrote",
		Long:              "Prints the log of an execution: the one with that ID, or the latest one of the function with that name.",
		Args:              takes("EXECUTION|FUNCTION"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the execution is final")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.connect()
		if err != nil {
			return err
		}
		id, err := findExecution(c.Context(), server, args[0])
		if err != nil {
			return err
		}
		if follow {
			return followLog(c.Context(), server, id, func(e client.Event) error { return a.printEvent(a.out, e) })
		}
		return a.printLog(c.Context(), server, id)
	}
	return c
}

// findExecution finds an execution by its ID, or the latest one of a function.
func findExecution(ctx context.Context, server *client.ClientWithResponses, name string) (string, error) {
	if id, err := warpket.ParseID("execution", name); err == nil {
		return string(id), nil
	}
	f, err := findFunction(ctx, server, name)
	if err != nil {
		return "", err
	}
	r, err := server.ListExecutionsWithResponse(ctx, &client.ListExecutionsParams{FunctionID: &f.FunctionID, Limit: new(int64(1))})
	if err != nil {
		return "", err
	}
	if len(r.JSON200.Items) == 0 {
		return "", &hinted{warpket.Errorf(warpket.NotFound, "%s has not been executed yet", name), "warpket run " + name}
	}
	return r.JSON200.Items[0].ID, nil
}

func (a *app) printLog(ctx context.Context, server *client.ClientWithResponses, id string) error {
	resp, err := server.GetExecutionLog(ctx, id, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if !a.json {
		_, err = io.Copy(a.out, resp.Body)
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return json.NewEncoder(a.out).Encode(logPart{string(text)})
}

// logPart is the data of an event "log".
type logPart struct {
	Text string `json:"text"`
}

// printEvent prints a part of a log that is followed.
func (a *app) printEvent(w io.Writer, e client.Event) error {
	if a.json && w == io.Writer(a.out) {
		_, err := fmt.Fprintf(w, "%s\n", e.Data)
		return err
	}
	if e.Name != "log" {
		return nil
	}
	var part logPart
	if err := json.Unmarshal(e.Data, &part); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	_, err := io.WriteString(w, part.Text)
	return err
}

// followLog passes on the events of a log until the execution is final. A
// stream that breaks off is taken up where it was, as long as it gets on.
func followLog(ctx context.Context, server *client.ClientWithResponses, id string, each func(client.Event) error) error {
	last := ""
	for {
		from := last
		over, broke, err := readLog(ctx, server, id, &last, each)
		switch {
		case err != nil || over:
			return err
		case last == from:
			return warpket.Because(warpket.Unavailable, broke, "the log of %s broke off", id)
		}
	}
}

// readLog reads one stream. It is over with the event "end"; else it broke off.
func readLog(ctx context.Context, server *client.ClientWithResponses, id string, last *string, each func(client.Event) error) (over bool, broke, err error) {
	resp, err := server.GetExecutionLog(ctx, id, &client.GetExecutionLogParams{LastEventID: given(*last)}, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "text/event-stream")
		return nil
	})
	if err != nil {
		return false, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	for e, err := range client.Events(resp.Body) {
		if ctx.Err() != nil {
			return false, nil, ctx.Err()
		}
		if err != nil {
			return false, err, nil
		}
		if err := each(e); err != nil {
			return false, nil, err
		}
		if e.Name == "end" {
			return true, nil, nil
		}
		*last = e.ID
	}
	return false, ctx.Err(), nil
}

// followBeside shows a log while something else is waited for. The function
// that it gives waits for the end of the log.
func (a *app) followBeside(ctx context.Context, server *client.ClientWithResponses, id string) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := followLog(ctx, server, id, func(e client.Event) error { return a.printEvent(a.err, e) }); err != nil && ctx.Err() == nil {
			a.note.printf("%v", err)
		}
	}()
	return func() { <-done }
}
