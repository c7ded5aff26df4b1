package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

// ExitCode is an error that only ends the program, with a code.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// The exit codes.
const (
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitDenied      = 5
	exitUnavailable = 6
	exitFailed      = 7
	exitTimedOut    = 8
	exitCancelled   = 9
	exitLost        = 10
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit code of a verb says",
		Long: `The exit code of a verb says what happened:

   0  all is well
   1  anything that is not below
   2  the command was not understood
   3  what it is about does not exist
   4  it cannot be done as asked: fix what is said
   5  the server does not know you, or you may not
   6  the server cannot be reached, or has no capacity now: try again later
   7  the execution or the deployment failed
   8  the execution ran for longer than it may
   9  the execution was cancelled, or you ended the wait
  10  the execution had started and its outcome cannot be known`,
	}
}

// exitOf maps the kinds of errors to exit codes.
var exitOf = map[warpket.Kind]int{
	warpket.Malformed:       exitRefused,
	warpket.Invalid:         exitRefused,
	warpket.Unauthenticated: exitDenied,
	warpket.Denied:          exitDenied,
	warpket.NotFound:        exitNotFound,
	warpket.Conflict:        exitRefused,
	warpket.Stale:           exitRefused,
	warpket.TooLarge:        exitRefused,
	warpket.OverQuota:       exitUnavailable,
	warpket.NoCapacity:      exitUnavailable,
	warpket.Unavailable:     exitUnavailable,
	warpket.Internal:        exitOther,
}

// exitOfStatus maps how executions end to exit codes.
var exitOfStatus = map[client.ExecutionStatus]int{
	client.ExecutionStatusFailed:    exitFailed,
	client.ExecutionStatusTimedOut:  exitTimedOut,
	client.ExecutionStatusCancelled: exitCancelled,
	client.ExecutionStatusLost:      exitLost,
}

// ends are the statuses in a sentence.
var ends = map[client.ExecutionStatus]string{
	client.ExecutionStatusFailed:    "failed",
	client.ExecutionStatusTimedOut:  "timed out",
	client.ExecutionStatusCancelled: "was cancelled",
	client.ExecutionStatusLost:      "was lost",
}

// usageError is a command that was not understood.
type usageError struct{ command, message string }

func (e *usageError) Error() string { return e.message }

// executionError is an execution that did not succeed.
type executionError struct{ client.Execution }

func (e *executionError) Error() string {
	text := "the execution " + ends[e.Status]
	if m := e.Execution.Error.Message; m != "" {
		text += ": " + m
	}
	return text
}

// deploymentError is a deployment that did not become ready.
type deploymentError struct{ client.Deployment }

func (e *deploymentError) Error() string {
	return fmt.Sprintf("the deployment of version %d %s: %s", e.Version, e.Status, e.Message)
}

// hinted is an error with what to do next.
type hinted struct {
	error
	hint string // a command
}

func (e *hinted) Unwrap() error { return e.error }

// jsonError is to be reported as JSON.
type jsonError struct{ error }

func (e *jsonError) Unwrap() error { return e.error }

// Report tells a person what went wrong and gives the exit code.
func Report(w io.Writer, err error) int {
	code, p := explain(err)
	if _, ok := errors.AsType[*jsonError](err); ok {
		reportJSON(w, p)
		return code
	}
	fmt.Fprintln(w, "warpket:", p.Detail)
	for _, part := range p.Errors {
		if part.Message != p.Detail && part.Location+": "+part.Message != p.Detail {
			fmt.Fprintf(w, "  %s: %s\n", part.Location, part.Message)
		}
	}
	if e, ok := errors.AsType[*executionError](err); ok {
		reportExecution(w, e.Execution)
	}
	if h := hint(err); h != "" {
		fmt.Fprintln(w, "  "+h)
	}
	return code
}

// reportJSON writes a problem; one that no server answered has no status.
func reportJSON(w io.Writer, p *client.Problem) {
	var out any = p
	if p.Status == 0 {
		out = map[string]any{"type": p.Type, "title": p.Title, "code": p.Code, "detail": p.Detail, "errors": p.Errors}
	}
	_ = json.NewEncoder(w).Encode(out) // nobody is left to tell
}

// reportExecution tells the rest of why an execution did not succeed.
func reportExecution(w io.Writer, e client.Execution) {
	if e.Error.Code != "" && string(e.Error.Code) != string(e.Status) {
		fmt.Fprintln(w, "  code:", e.Error.Code)
	}
	if t := strings.TrimSpace(e.Error.Traceback); t != "" {
		fmt.Fprintln(w, "  "+strings.ReplaceAll(t, "\n", "\n  "))
	}
}

// explain gives the exit code of an error and what is to be told of it.
func explain(err error) (int, *client.Problem) {
	if p, ok := errors.AsType[*client.Problem](err); ok {
		if code, ok := exitOf[warpket.Kind(p.Code)]; ok {
			return code, p
		}
		if p.Status < http.StatusInternalServerError {
			return exitRefused, p
		}
		return exitOther, p
	}
	p := &client.Problem{Type: "about:blank", Title: "Error", Code: client.ProblemCodeInternal, Detail: err.Error(), Errors: []client.ProblemPart{}}
	if e, ok := errors.AsType[*usageError](err); ok {
		p.Title, p.Code, p.Detail = "Usage", client.ProblemCodeInvalid, e.message
		return exitUsage, p
	}
	if e, ok := errors.AsType[*executionError](err); ok {
		p.Title, p.Code = "Execution "+string(e.Status), client.ProblemCode(e.Execution.Error.Code)
		return exitOfStatus[e.Status], p
	}
	if _, ok := errors.AsType[*deploymentError](err); ok {
		p.Title = "Deployment failed"
		return exitFailed, p
	}
	e, ours := errors.AsType[*warpket.Error](err)
	if ours {
		p.Code, p.Detail = client.ProblemCode(e.Kind), e.Message
	}
	if errors.Is(err, context.Canceled) {
		p.Title = "Interrupted"
		if !ours {
			p.Detail = "interrupted"
		}
		return exitCancelled, p
	}
	if ours {
		return exitOf[e.Kind], p
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		p.Code, p.Detail = client.ProblemCodeUnavailable, fmt.Sprintf("cannot reach %s: %v", server(e.URL), e.Err)
		if errors.Is(err, syscall.ECONNREFUSED) {
			p.Detail = "nothing answers at " + server(e.URL)
		}
		return exitUnavailable, p
	}
	return exitOther, p
}

// hint says what to do next, if that is known.
func hint(err error) string {
	if e, ok := errors.AsType[*hinted](err); ok {
		return "try: " + e.hint
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		return "try: " + e.command + " --help"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "is it running? start it with: warpket dev"
	}
	if _, p := explain(err); p.Code == client.ProblemCodeUnauthenticated {
		return "try: warpket login"
	}
	return ""
}

// server is the part of a URL that names the server.
func server(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}
