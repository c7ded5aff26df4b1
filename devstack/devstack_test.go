package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"
)

// One start after the other on one directory: each subtest goes on where the
// one before it has left things.
func TestDevstack(t *testing.T) { //nolint:tparallel // see above
	t.Parallel()
	// Longer than the path of a Unix socket may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data")
	whole := t // a devstack outlives the subtest that starts it
	r := start(whole, dir)
	at := r.ready()

	t.Run("each part answers", func(t *testing.T) {
		query(t, at, `create table kept (n int)`)
		query(t, at, `insert into kept values (1)`)
		put(t, at, "kept", "1")
		page := get(t, at.TemporalUI)
		if !strings.Contains(page, "<html") {
			t.Errorf("the UI answers %q", page)
		}
		get(t, at.TemporalUI+"/api/v1/namespaces/default")
	})
	t.Run("temporal does what the product asks of it", func(t *testing.T) {
		registerProduct(t, at)
		runWorkflows(t, at, "first")
	})
	t.Run("postgres is set up to last", func(t *testing.T) {
		for setting, want := range map[string]string{
			"fsync": "on", "max_connections": "200", "shared_buffers": "128MB",
			"listen_addresses": "127.0.0.1", "unix_socket_directories": "",
			"password_encryption": "scram-sha-256", "server_encoding": "UTF8",
		} {
			if got := query(t, at, `select current_setting('`+setting+`')`); got != want {
				t.Errorf("%s is %q, want %q", setting, got, want)
			}
		}
		wrong, _ := url.Parse(at.Postgres)
		wrong.User = url.UserPassword(wrong.User.Username(), "wrong")
		if conn, err := pgx.Connect(t.Context(), wrong.String()); err == nil {
			_ = conn.Close(t.Context())
			t.Error("a wrong password is accepted")
		}
	})
	t.Run("a second start on the same directory is refused", func(t *testing.T) {
		said := refusal(t, dir)
		if !strings.Contains(said, "pid "+itoa(r.cmd.Process.Pid)) {
			t.Errorf("it does not name who runs: %s", said)
		}
	})
	for _, part := range allParts {
		t.Run("a killed "+part+" comes back where it was", func(t *testing.T) {
			r := r.in(t)
			kill(t, r.part(part))
			began := time.Now()
			r.phase(part, restarting)
			r.phase(part, ready)
			t.Logf("after %s", time.Since(began))
			allAnswer(t, at)
		})
	}
	t.Run("a killed postgres server comes back below its guardian", func(t *testing.T) {
		r := r.in(t)
		pid, err := postmasterPID(filepath.Join(dir, dataDir))
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pid)
		r.phase(postgresPart, ready)
		allAnswer(t, at)
	})
	t.Run("a killed devstack leaves nothing and its data is there again", func(t *testing.T) {
		query(t, at, `insert into kept values (2)`)
		kill(t, r.cmd.Process.Pid)
		allGone(t, dir, 3*time.Second)
		r.end()
		r = start(whole, dir)
		if again := r.in(t).ready(); *again.S3 != *at.S3 || again.Postgres != at.Postgres || again.Temporal != at.Temporal || again.TemporalUI != at.TemporalUI {
			t.Errorf("addresses changed: %+v, were %+v", again, at)
		}
		if got := query(t, at, `select sum(n)::text from kept`); got != "3" {
			t.Errorf("the rows have the sum %s, want 3", got)
		}
	})
	t.Run("a killed devstack can be followed at once", func(t *testing.T) {
		kill(t, r.cmd.Process.Pid)
		r = start(whole, dir)
		if again := r.in(t).ready(); again.Postgres != at.Postgres {
			t.Errorf("addresses changed: %+v, were %+v", again, at)
		}
	})
	t.Run("a stop and a start keep all data", func(t *testing.T) {
		r.in(t).stop()
		thief := listen(t, at.Temporal) // not even on the same ports
		defer thief.Close()
		began := time.Now()
		r = start(whole, dir)
		moved := r.in(t).ready()
		t.Logf("warm start in %s", time.Since(began))
		if moved.Temporal == at.Temporal {
			t.Errorf("temporal is still at %s", moved.Temporal)
		}
		runWorkflows(t, moved, "second")
		if got := query(t, at, `select sum(n)::text from kept`); got != "3" {
			t.Errorf("the rows have the sum %s, want 3", got)
		}
		if got := object(t, at, "kept"); got != "1" {
			t.Errorf("the object is %q", got)
		}
	})
	t.Run("logs hold no secrets", func(t *testing.T) {
		r.in(t).stop()
		var creds accounts
		readJSON(t, filepath.Join(dir, "credentials.json"), &creds)
		logs, _ := filepath.Glob(filepath.Join(dir, "log", "*"))
		if len(logs) != 4 {
			t.Errorf("logs: %v", logs)
		}
		for _, log := range logs {
			text := read(t, log)
			if strings.Contains(text, creds.Postgres.Password) || strings.Contains(text, creds.S3.SecretKey) {
				t.Errorf("%s holds a secret", log)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "credentials.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("credentials.json: %v %v", info, err)
		}
	})
}

func TestTwoFirstStartsAtTheSameMomentInDirectoriesClosedToOthers(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	cache := filepath.Join(closed, "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	fillCache(t, cache)
	var both sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		dir := filepath.Join(closed, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r := start(t, dir, "--parts", "postgres,s3", "--cache", cache)
		both.Go(func() {
			at := r.ready()
			query(t, at, `select 1::text`)
			put(t, at, "key", name)
			if got := object(t, at, "key"); got != name {
				t.Errorf("got the object %q of the other", got)
			}
			if at.Temporal != "" || at.TemporalUI != "" {
				t.Errorf("addresses of parts that do not run: %+v", at)
			}
			r.stop()
		})
	}
	both.Wait()
}

func TestTemporalRunsOnAnotherPostgres(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := start(t, filepath.Join(dir, "postgres"), "--parts", "postgres")
	// --no-watch: it is stopped by a signal, as by hand.
	r := start(t, filepath.Join(dir, "temporal"), "--parts", "temporal", "--no-watch", "--postgres-url", other.ready().Postgres)
	at := r.ready()
	if at.Postgres != "" || at.S3 != nil {
		t.Errorf("addresses of parts that do not run: %+v", at)
	}
	c := dial(t, at, "default")
	defer c.Close()
	if _, err := c.CheckHealth(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, r.stderr)
	}
	other.stop()
}

func TestATakenPortIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, "--parts", "s3")
	at := r.ready()
	put(t, at, "key", "value")
	r.stop()

	thief := listen(t, strings.TrimPrefix(at.S3.Endpoint, "http://"))
	defer thief.Close()
	r = start(t, dir, "--parts", "s3")
	moved := r.ready()
	if moved.S3.Endpoint == at.S3.Endpoint {
		t.Fatalf("still at %s", moved.S3.Endpoint)
	}
	if got := object(t, moved, "key"); got != "value" {
		t.Errorf("the object is %q", got)
	}
	r.stop()
	r = start(t, dir, "--parts", "s3")
	if again := r.ready(); again.S3.Endpoint != moved.S3.Endpoint {
		t.Errorf("moved again, to %s", again.S3.Endpoint)
	}
	r.stop()
}

func TestObjectsAreKeptWhereFilesHaveNoAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// As a start on such a file system would have left it.
	if err := os.Mkdir(filepath.Join(dir, "metadata-s3"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, "--parts", "s3")
	at := r.ready()
	put(t, at, "key", "value")
	r.stop()
	r = start(t, dir, "--parts", "s3")
	if got := object(t, r.ready(), "key"); got != "value" {
		t.Errorf("the object is %q", got)
	}
	r.stop()
}

func TestAnotherMajorVersionIsNamedWhenRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pg17"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pg17", "PG_VERSION"), []byte("17\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said := refusal(t, dir)
	for _, word := range []string{"Postgres 17", "Postgres 18", "warpket backup", "warpket restore"} {
		if !strings.Contains(said, word) {
			t.Errorf("%q is not in: %s", word, said)
		}
	}
}

// registerProduct registers a namespace and a search attribute.
func registerProduct(t *testing.T, at addresses) {
	t.Helper()
	c := dial(t, at, "product")
	defer c.Close()
	if _, err := c.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: "product", WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{
		Namespace:        "product",
		SearchAttributes: map[string]enumspb.IndexedValueType{"FunctionId": enumspb.INDEXED_VALUE_TYPE_KEYWORD},
	}); err != nil {
		t.Fatal(err)
	}
}

// runWorkflows runs workflows in the ways the product does: started eagerly,
// by update-with-start, and found by search attributes.
func runWorkflows(t *testing.T, at addresses, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := dial(t, at, "product")
	defer c.Close()
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
		done := false
		err := workflow.SetUpdateHandler(ctx, "finish", func(workflow.Context) (string, error) {
			done = true
			return "finished", nil
		})
		if err != nil {
			return "", err
		}
		return "done", workflow.Await(ctx, func() bool { return done })
	}, workflow.RegisterOptions{Name: "Waits"})
	w.RegisterWorkflowWithOptions(func(workflow.Context) (string, error) { return "done", nil }, workflow.RegisterOptions{Name: "Returns"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	key := temporal.NewSearchAttributeKeyKeyword("FunctionId")
	var run client.WorkflowRun
	eventually(ctx, t, func() error { // the new attribute is known to all services within a second
		var err error
		run, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: name + "-eager", TaskQueue: "queue", EnableEagerStart: true,
			TypedSearchAttributes: temporal.NewSearchAttributes(key.ValueSet(name)),
		}, "Returns")
		return err
	})
	var answer string
	if err := run.Get(ctx, &answer); err != nil || answer != "done" {
		t.Errorf("started eagerly: %q, %v", answer, err)
	}
	history := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	first, err := history.Next()
	if err != nil || !first.GetWorkflowExecutionStartedEventAttributes().GetEagerExecutionAccepted() {
		t.Errorf("it was not started eagerly: %v, %v", first, err)
	}

	update, err := c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: name + "-updated", TaskQueue: "queue", WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		}, "Waits"),
		UpdateOptions: client.UpdateWorkflowOptions{UpdateName: "finish", WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := update.Get(ctx, &answer); err != nil || answer != "finished" {
		t.Errorf("updated with start: %q, %v", answer, err)
	}

	eventually(ctx, t, func() error { // visibility follows a moment later
		found, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "FunctionId = '" + name + "'"})
		if err == nil && len(found.GetExecutions()) != 1 {
			err = errors.New("the workflow is not listed by its search attribute")
		}
		return err
	})
}

// allAnswer waits until all parts answer again.
func allAnswer(t *testing.T, at addresses) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	query(t, at, `select 1::text`)
	object(t, at, "kept")
	c := dial(t, at, "default")
	defer c.Close()
	eventually(ctx, t, func() error {
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "none"}, "None")
		if err != nil {
			return err
		}
		return c.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "only a test")
	})
	get(t, at.TemporalUI)
}

func dial(t *testing.T, at addresses, namespace string) client.Client {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: at.Temporal, Namespace: namespace, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// query runs one statement and returns the one value it answers, if any.
func query(t *testing.T, at addresses, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), at.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var value string
	if err := conn.QueryRow(t.Context(), statement).Scan(&value); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return value
}

func s3Client(at addresses) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &at.S3.Endpoint,
		Region:       at.S3.Region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(at.S3.AccessKey, at.S3.SecretKey, ""),
	})
}

func put(t *testing.T, at addresses, key, value string) {
	t.Helper()
	_, err := s3Client(at).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &at.S3.Bucket, Key: &key, Body: bytes.NewReader([]byte(value)), ContentType: aws.String("text/plain"),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func object(t *testing.T, at addresses, key string) string {
	t.Helper()
	got, err := s3Client(at).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &at.S3.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if aws.ToString(got.ContentType) != "text/plain" {
		t.Errorf("the content type is lost: %q", aws.ToString(got.ContentType))
	}
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func get(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %v", address, resp.Status, err)
	}
	return string(text)
}

// eventually waits until something succeeds.
func eventually(ctx context.Context, t *testing.T, try func() error) {
	t.Helper()
	for {
		err := try()
		if err == nil {
			return
		}
		if !again(ctx) {
			t.Fatal(err)
		}
	}
}

// fillCache puts the archive of Postgres into a cache if an earlier run has
// downloaded it. What unpacks it is what is tested, not the network.
func fillCache(t *testing.T, cache string) {
	t.Helper()
	user, err := os.UserCacheDir()
	if err != nil {
		return
	}
	archives, _ := filepath.Glob(filepath.Join(user, "warpket", "*.txz"))
	for _, archive := range archives {
		if err := os.WriteFile(filepath.Join(cache, filepath.Base(archive)), []byte(read(t, archive)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// quiet is a logger for clients that says nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
