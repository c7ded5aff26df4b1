// Package workflows drives warpket's long work with Temporal: deployments,
// runtimes and durable executions. A workflow decides, an activity acts, and
// Postgres is the truth: every input is an ID, and wiping Temporal loses
// nothing that is not started again from the records.
package workflows

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/warpket/warpket"
)

// Retention of finished workflows: executions are many, and their rows tell all.
const (
	executionRetention  = 24 * time.Hour
	deploymentRetention = 30 * 24 * time.Hour
)

// Task queues, one in each namespace.
const (
	executionQueue  = "executions"
	deploymentQueue = "deployments"
)

// Typed search attributes: what the lists of the Temporal UI can be narrowed by.
var (
	functionID      = temporal.NewSearchAttributeKeyKeyword("FunctionId")
	functionVersion = temporal.NewSearchAttributeKeyInt64("FunctionVersion")
	projectID       = temporal.NewSearchAttributeKeyKeyword("ProjectId")
	sdkVersion      = temporal.NewSearchAttributeKeyKeyword("SdkVersion")
	kind            = temporal.NewSearchAttributeKeyKeyword("Kind")
	phase           = temporal.NewSearchAttributeKeyKeyword("Phase")
	nodeNames       = temporal.NewSearchAttributeKeyKeywordList("Node")
)

// Temporal says where Temporal is.
type Temporal struct {
	Address             string // host:port of the frontend
	ExecutionNamespace  string
	DeploymentNamespace string
	UI                  string // base URL of the Temporal UI; empty for none
	TLS                 *tls.Config
}

// Client is the only one to start, signal or ask workflows.
type Client struct {
	config      Temporal
	executions  client.Client
	deployments client.Client
}

// Connect connects to Temporal and makes sure of the namespaces and search
// attributes, where that is allowed.
func Connect(ctx context.Context, c Temporal, log *slog.Logger) (*Client, error) {
	logger := temporallog.NewStructuredLogger(log)
	options := client.Options{HostPort: c.Address, Logger: logger, ConnectionOptions: client.ConnectionOptions{TLS: c.TLS}}
	namespaces, err := client.NewNamespaceClient(options)
	if err != nil {
		return nil, fmt.Errorf("connecting to Temporal at %s: %w", c.Address, err)
	}
	defer namespaces.Close()
	for name, retention := range map[string]time.Duration{c.ExecutionNamespace: executionRetention, c.DeploymentNamespace: deploymentRetention} {
		err := namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(retention)})
		if _, exists := errors.AsType[*serviceerror.NamespaceAlreadyExists](err); err != nil && !exists {
			log.Warn("namespace not made; it must exist", "namespace", name, "cause", err)
		}
	}
	out := &Client{config: c}
	if out.executions, err = dial(ctx, options, c.ExecutionNamespace, log); err != nil {
		return nil, err
	}
	if out.deployments, err = dial(ctx, options, c.DeploymentNamespace, log); err != nil {
		out.executions.Close()
		return nil, err
	}
	return out, nil
}

func dial(ctx context.Context, options client.Options, namespace string, log *slog.Logger) (client.Client, error) {
	options.Namespace = namespace
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("connecting to Temporal at %s: %w", options.HostPort, err)
	}
	if err := addSearchAttributes(ctx, c, namespace); err != nil {
		log.Warn("search attributes not made; they must exist", "namespace", namespace, "cause", err)
	}
	return c, nil
}

// addSearchAttributes makes those that are missing. A namespace that has just
// been made is known to all parts of Temporal a moment later, so it is tried
// until then.
func addSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	want := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{functionID, functionVersion, projectID, sdkVersion, kind, phase, nodeNames} {
		want[key.GetName()] = key.GetValueType()
	}
	for {
		have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
		if err == nil {
			for name := range have.GetCustomAttributes() {
				delete(want, name)
			}
			if len(want) == 0 {
				return nil
			}
			_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: want})
		}
		if _, unknown := errors.AsType[*serviceerror.NamespaceNotFound](err); err != nil && !unknown {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Close ends both connections.
func (c *Client) Close() {
	c.executions.Close()
	c.deployments.Close()
}

// Ready reports whether Temporal answers.
func (c *Client) Ready(ctx context.Context) error {
	if _, err := c.deployments.CheckHealth(ctx, nil); err != nil {
		return warpket.Because(warpket.Unavailable, err, "Temporal does not answer; try again in a moment")
	}
	return nil
}

// startExecution starts the workflow of an execution, in this process if it
// has room. Starting it again does nothing.
func (c *Client) startExecution(ctx context.Context, e warpket.Execution, launched bool) error {
	_, err := c.executions.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       string(e.ID),
		TaskQueue:                executionQueue,
		EnableEagerStart:         true,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            summary(e.FunctionName, e.VersionNumber),
		TypedSearchAttributes: temporal.NewSearchAttributes(kind.ValueSet("execution"), projectID.ValueSet(string(e.ProjectID)),
			functionID.ValueSet(string(e.FunctionID)), functionVersion.ValueSet(int64(e.VersionNumber))),
	}, Execute, ExecuteInput{ExecutionID: e.ID, SnapshotID: e.SnapshotID, CPU: e.Resources.CPU, Memory: e.Resources.Memory, Revision: e.Revision, More: !e.Resources.Plain(), Launched: launched})
	return explain(err)
}

// summary is what a workflow is called in lists.
func summary(function string, version int) string {
	if version == warpket.DraftNumber {
		return function + " draft"
	}
	return fmt.Sprintf("%s v%d", function, version)
}

// StartDeployment starts the workflow of a deployment. Starting it again does
// nothing.
func (c *Client) StartDeployment(ctx context.Context, d warpket.Deployment) error {
	_, err := c.deployments.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       string(d.ID),
		TaskQueue:                deploymentQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            fmt.Sprintf("%s on %d slots", summary(d.FunctionName, d.VersionNumber), d.Slots),
		StaticDetails: fmt.Sprintf("Keeps %s of the function **%s** on %d slots until it is detached.\n\n* function `%s`\n* snapshot `%s`\n* runtime `%s`",
			warpket.VersionName(d.VersionNumber), d.FunctionName, d.Slots, d.FunctionID, d.SnapshotID, d.RuntimeID),
		TypedSearchAttributes: temporal.NewSearchAttributes(kind.ValueSet("deployment"), projectID.ValueSet(string(d.ProjectID)),
			functionID.ValueSet(string(d.FunctionID)), functionVersion.ValueSet(int64(d.VersionNumber)), phase.ValueSet(string(d.Status))),
	}, Deploy, DeployInput{DeploymentID: d.ID})
	return explain(err)
}

// StartRuntime starts the workflow that builds a runtime, or what it is made
// of. However many ask, that is built once.
func (c *Client) StartRuntime(ctx context.Context, r warpket.Runtime) error {
	_, err := c.startBuild(ctx, r)
	return err
}

// buildRuntime has a runtime built and waits for it.
func (c *Client) buildRuntime(ctx context.Context, r warpket.Runtime) error {
	run, err := c.startBuild(ctx, r)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

func (c *Client) startBuild(ctx context.Context, r warpket.Runtime) (client.WorkflowRun, error) {
	id, summary := r.String(), fmt.Sprintf("%s %s on Python %s", r.SDK, r.SDKVersion, r.Python)
	if r.Image != nil {
		id, summary = "runtime/image/"+string(r.ID), "image of the runtime "+r.Name
	}
	run, err := c.deployments.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       id,
		TaskQueue:                deploymentQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            summary,
		TypedSearchAttributes:    temporal.NewSearchAttributes(kind.ValueSet("runtime"), sdkVersion.ValueSet(strings.TrimSpace(r.SDK+" "+r.SDKVersion))),
	}, BuildRuntime, BuildRuntimeInput{RuntimeID: r.BuildID()})
	return run, explain(err)
}

// buildVersion has a version's files compiled and waits for it.
func (c *Client) buildVersion(ctx context.Context, b warpket.Build) error {
	run, err := c.deployments.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       "build/" + string(b.ID),
		TaskQueue:                deploymentQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "compile for " + strings.Join(b.Architectures, ", "),
		TypedSearchAttributes:    temporal.NewSearchAttributes(kind.ValueSet("build"), projectID.ValueSet(string(b.ProjectID))),
	}, BuildVersion, BuildVersionInput{BuildID: b.ID})
	if err != nil {
		return explain(err)
	}
	return run.Get(ctx, nil)
}

// Scale sets how many slots a deployment wants and returns when it is recorded.
// Unless seen is zero, it is refused if the deployment has changed since then.
func (c *Client) Scale(ctx context.Context, deployment warpket.ID, slots int, seen time.Time) error {
	return c.update(ctx, deployment, client.WorkflowUpdateStageCompleted, scaleUpdate, slots, seen)
}

// Detach has a deployment give its slots back. It returns when that is sure to
// happen; the slots go as they finish what they run.
func (c *Client) Detach(ctx context.Context, deployment warpket.ID) error {
	return c.update(ctx, deployment, client.WorkflowUpdateStageAccepted, detachUpdate)
}

func (c *Client) update(ctx context.Context, deployment warpket.ID, stage client.WorkflowUpdateStage, name string, args ...any) error {
	handle, err := c.deployments.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: string(deployment), UpdateName: name, Args: args, WaitForStage: stage,
	})
	if err == nil && stage == client.WorkflowUpdateStageCompleted {
		err = handle.Get(ctx, nil)
	}
	if refused, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return &warpket.Error{Kind: kindOf(refused), Message: refused.Message()}
	}
	if _, ended := errors.AsType[*serviceerror.NotFound](err); ended {
		return warpket.Because(warpket.Conflict, err, "deployment %s has ended", deployment)
	}
	return explain(err)
}

// Reconcile tells a deployment that something about its slots has changed.
func (c *Client) Reconcile(ctx context.Context, deployment warpket.ID) error {
	err := c.deployments.SignalWorkflow(ctx, string(deployment), "", reconcileSignal, nil)
	if _, ended := errors.AsType[*serviceerror.NotFound](err); ended {
		return nil
	}
	return explain(err)
}

// DeploymentURL is the page of a deployment in the Temporal UI.
func (c *Client) DeploymentURL(id warpket.ID) string {
	return c.page(c.config.DeploymentNamespace, id)
}

// ExecutionURL is the page of an execution in the Temporal UI.
func (c *Client) ExecutionURL(id warpket.ID) string { return c.page(c.config.ExecutionNamespace, id) }

func (c *Client) page(namespace string, id warpket.ID) string {
	if c.config.UI == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s", c.config.UI, namespace, id)
}

// explain gives Temporal's errors their kinds.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return warpket.Because(warpket.Unavailable, err, "Temporal does not answer; try again in a moment")
}

// outcome says to Temporal whether an activity that failed is worth another
// try. The message is one that people may read, and all that they get.
func outcome(err error) error {
	if err == nil {
		return nil
	}
	k := warpket.KindOf(err)
	e, ok := errors.AsType[*warpket.Error](err)
	if !ok || k.Retryable() && k != warpket.OverQuota { // what waits for room in a quota says so itself
		return err
	}
	return temporal.NewNonRetryableApplicationError(e.Message, string(k), err)
}

// kindOf reads the kind that outcome has written.
func kindOf(err error) warpket.Kind {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok && e.Type() != "" {
		switch k := warpket.Kind(e.Type()); k {
		case warpket.Invalid, warpket.NotFound, warpket.Conflict, warpket.Stale, warpket.NoCapacity, warpket.Denied, warpket.OverQuota:
			return k
		default:
		}
	}
	return warpket.Internal
}
