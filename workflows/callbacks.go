package workflows

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// DeliverCallbackInput names an execution.
type DeliverCallbackInput struct {
	ExecutionID warpket.ID
}

// DeliverCallback tells whoever asked for it that an execution is final. It
// tries for some hours.
func DeliverCallback(ctx workflow.Context, in DeliverCallbackInput) error {
	var a *Activities
	err := workflow.ExecuteActivity(sent(ctx), a.SendCallback, in.ExecutionID).Get(ctx, nil)
	if err != nil {
		detached, _ := workflow.NewDisconnectedContext(ctx)
		return workflow.ExecuteActivity(short(detached, "give up"), a.FailCallback, in.ExecutionID).Get(detached, nil)
	}
	return nil
}

// sent is for a request to a stranger's server: tried after 10 and 30 seconds,
// 90, 270, and so on, at last every hour, four hours in all.
func sent(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * callbackTime,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 10 * time.Second, BackoffCoefficient: 3, MaximumInterval: time.Hour, MaximumAttempts: 10},
		Summary:             "send the callback",
	})
}

// callbackTime is how long a server may take to answer.
const callbackTime = 20 * time.Second

// callbackBody is what a callback says.
type callbackBody struct {
	Type      string       `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      callbackData `json:"data"`
}

type callbackData struct {
	ID           warpket.ID       `json:"id"`
	FunctionID   warpket.ID       `json:"functionId"`
	FunctionName string           `json:"functionName"`
	Version      int              `json:"version"`
	Status       warpket.Status   `json:"status"`
	Result       json.RawMessage  `json:"result,omitempty"`
	ResultURL    string           `json:"resultUrl,omitempty"`
	ResultSize   int64            `json:"resultSize"`
	Error        *warpket.Failure `json:"error,omitempty"`
	Description  string           `json:"description"`
	Tags         []string         `json:"tags"`
	CreatedDate  time.Time        `json:"createdDate"`
	FinishedDate *time.Time       `json:"finishedDate,omitempty"`
}

// SendCallback makes one attempt to deliver the callback of an execution, and
// records it. An attempt that is made again after a crash has the same ID, by
// which its receiver knows it.
func (a *Activities) SendCallback(ctx context.Context, id warpket.ID) error {
	e, err := a.Store.ExecutionByID(ctx, id)
	if err != nil || e.Callback == nil || e.Callback.Status != warpket.CallbackPending || !e.Status.Final() {
		return outcome(err)
	}
	problem := ""
	if sending := a.post(ctx, e); sending != nil {
		problem = messageOf(sending)
	}
	err = a.Store.ChangeCallback(ctx, id, func(c *warpket.Callback) { c.Attempted(problem, a.Now()) })
	if err == nil && problem != "" {
		err = warpket.Errorf(warpket.Unavailable, "%s", problem)
	}
	return outcome(err)
}

// FailCallback records that a callback is not tried again.
func (a *Activities) FailCallback(ctx context.Context, id warpket.ID) error {
	err := a.Store.ChangeCallback(ctx, id, func(c *warpket.Callback) { c.Status = warpket.CallbackFailed })
	if warpket.KindOf(err) == warpket.NotFound {
		return nil // its execution was deleted
	}
	return outcome(err)
}

// post sends a callback. The message of its error tells nothing of the network
// that the caller would not see otherwise.
func (a *Activities) post(ctx context.Context, e warpket.Execution) error {
	data := callbackData{
		ID: e.ID, FunctionID: e.FunctionID, FunctionName: e.FunctionName, Version: e.VersionNumber, Status: e.Status, Result: e.Result.Inline, ResultSize: e.Result.Size,
		Error: e.Error, Description: e.Description, Tags: e.Tags, CreatedDate: e.CreatedDate, FinishedDate: e.FinishedDate,
	}
	if e.Result.SHA256 != "" {
		data.ResultURL = "/v1/executions/" + string(e.ID) + "/result"
	}
	body, err := json.Marshal(callbackBody{"execution.finished", a.Now(), data})
	if err != nil {
		return fmt.Errorf("writing the callback of execution %s: %w", e.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callbackTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.Callback.URL, bytes.NewReader(body))
	if err != nil {
		return warpket.Because(warpket.Invalid, err, "the URL cannot be read")
	}
	at := strconv.FormatInt(a.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "warpket")
	req.Header.Set("Webhook-Id", string(e.ID))
	req.Header.Set("Webhook-Timestamp", at)
	if e.Callback.Secret != "" {
		secret, err := a.open(ctx, e.ProjectID, e.Callback.Secret)
		if err != nil {
			return err
		}
		req.Header.Set("Webhook-Signature", signature(secret, string(e.ID), at, body))
	}
	resp, err := a.Callbacks.RoundTrip(req) // follows no redirect
	if err != nil {
		return unreached(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection may be kept
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return warpket.Errorf(warpket.Unavailable, "the server answered %d", resp.StatusCode)
	}
	return nil
}

// unreached says why no server has answered.
func unreached(err error) error {
	if e, ok := errors.AsType[*warpket.Error](err); ok && e.Kind == warpket.Denied {
		return warpket.Because(warpket.Denied, err, "the address of its host is not one that may be called")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return warpket.Because(warpket.Unavailable, err, "the server did not answer within %s", callbackTime)
	}
	return warpket.Because(warpket.Unavailable, err, "the server could not be reached")
}

// open gives the value of one of a project's secrets.
func (a *Activities) open(ctx context.Context, project warpket.ID, name string) (string, error) {
	sealed, err := a.Store.SealedSecret(ctx, project, name)
	if err != nil {
		return "", err
	}
	key, err := a.Secrets.Key(ctx, project)
	if err != nil {
		return "", err
	}
	return key.Open(name, sealed)
}

// signature is that of the Standard Webhooks: HMAC-SHA256 of the ID, the time
// and the body, by the secret. One of the form whsec_BASE64 stands for its
// bytes, as in their libraries.
func signature(secret, id, at string, body []byte) string {
	key := []byte(secret)
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			key = b
		}
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, at) // never fails, see hash.Hash
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// callBack has the callback of a final execution sent, if someone wants to be
// called. It was promised with the final status.
func (a *Activities) callBack(e warpket.Execution) {
	if e.Callback == nil || e.Callback.Status != warpket.CallbackPending {
		return
	}
	a.goOn(func(ctx context.Context) {
		if err := a.startCallback(ctx, e.ID); err != nil {
			a.Log.Warn("callback not begun; the sweeper does", "execution", e.ID, "error", err)
			return
		}
		if err := a.Store.PutOff(ctx, postgres.Promise{Kind: "callback", SubjectID: e.ID}); err != nil {
			a.Log.Warn("callback is begun once more", "execution", e.ID, "error", err)
		}
	})
}

func (a *Activities) startCallback(ctx context.Context, execution warpket.ID) error {
	e, err := a.Store.ExecutionByID(ctx, execution)
	if err != nil {
		return err
	}
	return a.Client.startCallback(ctx, e)
}

// startCallback starts the workflow of an execution's callback. Starting it
// again does nothing.
func (c *Client) startCallback(ctx context.Context, e warpket.Execution) error {
	_, err := c.executions.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       "callback/" + string(e.ID),
		TaskQueue:                executionQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "callback of " + e.FunctionName,
		TypedSearchAttributes:    temporal.NewSearchAttributes(kind.ValueSet("callback"), projectID.ValueSet(string(e.ProjectID)), functionID.ValueSet(string(e.FunctionID))),
	}, DeliverCallback, DeliverCallbackInput{ExecutionID: e.ID})
	return explain(err)
}
