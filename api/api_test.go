package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/channel"
	client "github.com/warpket/warpket/clients/go"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/metrics"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/templates"
	"github.com/warpket/warpket/teststack"
)

// workflows stand for Temporal: they record what was started.
type workflows struct {
	mu          sync.Mutex
	deployments []warpket.Deployment
	scaled      []time.Time // as what they were seen that were to be scaled
	builds      []warpket.Runtime
	down        error
	run         func(warpket.Execution) // called when an execution is launched
	build       func(warpket.Runtime)   // called when a runtime is to be built
	follow      func(warpket.Execution) // called when a log is followed that goes elsewhere
	random      func(n int) int
}

func (w *workflows) StartDeployment(_ context.Context, d warpket.Deployment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deployments = append(w.deployments, d)
	return w.down
}

func (w *workflows) StartRuntime(_ context.Context, r warpket.Runtime) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.builds = append(w.builds, r)
	if w.build != nil {
		go w.build(r)
	}
	return w.down
}

func (w *workflows) Scale(_ context.Context, _ warpket.ID, _ int, seen time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scaled = append(w.scaled, seen)
	return w.down
}
func (w *workflows) Detach(context.Context, warpket.ID) error { return w.down }
func (w *workflows) DeploymentURL(id warpket.ID) string       { return "http://ui/" + string(id) }

func (w *workflows) ExecutionURL(id warpket.ID) string { return "http://ui/" + string(id) }
func (w *workflows) ScheduleURL(id warpket.ID) string  { return "http://ui/schedules/" + string(id) }
func (w *workflows) Ready(context.Context) error       { return w.down }

type fleet struct {
	store *postgres.Store
	*workflows
}

func (f fleet) Launch(ctx context.Context, e warpket.Execution, _ bool) error {
	if _, err := f.store.CreateExecution(ctx, e); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run != nil {
		go f.run(e)
	}
	return nil
}

func (f fleet) CancelExecution(ctx context.Context, project, id warpket.ID) (warpket.Execution, error) {
	return f.store.AskCancel(ctx, project, id, warpket.Failure{Code: warpket.CancelledCode}, time.Now())
}

func (f fleet) Room(ctx context.Context, need warpket.Need, _ bool) error {
	nodes, err := f.store.Fleet(ctx)
	if err == nil {
		_, err = placement.Place(nodes, placement.RequestOf(need))
	}
	return err
}

func (f fleet) FollowLog(ctx context.Context, e warpket.Execution) {
	f.mu.Lock()
	follow := f.follow
	f.mu.Unlock()
	if follow != nil {
		follow(e)
		<-ctx.Done()
	}
}

func (f fleet) Fence(ctx context.Context, node warpket.ID) (warpket.Node, error) {
	n, _, err := f.store.FenceNode(ctx, node, time.Now())
	return n, err
}
func (f fleet) ReleaseAll(context.Context, warpket.ID, postgres.Deleted) {}
func (f fleet) ScheduleChanged(context.Context, warpket.ID)              {}

// world is a server with all that it works with.
type world struct {
	images *registry
	*workflows
	store *postgres.Store
	hub   *live.Hub
	url   string
	token string
	s3    blob.Config
	db    string       // URL of the database
	ahead atomic.Int64 // by how much the server's clock is
}

func (w *world) clock() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T) *world {
	t.Helper()
	keys, err := secrets.ParseKeyring(secrets.NewOperatorKey())
	if err != nil {
		t.Fatal(err)
	}
	return newWorldWith(t, keys)
}

// newWorldWith is a world whose operator has these keys for secrets.
func newWorldWith(t *testing.T, keys secrets.Keyring) *world {
	t.Helper()
	images := &registry{tags: map[string]string{}}
	w := makeWorld(t, keys, images)
	w.images = images
	return w
}

// newWorldOf is a world with these registries.
func newWorldOf(t *testing.T, images api.Images) *world {
	t.Helper()
	return makeWorld(t, secrets.Keyring{}, images)
}

func makeWorld(t *testing.T, keys secrets.Keyring, images api.Images) *world {
	t.Helper()
	ctx := t.Context()
	db := teststack.Postgres(t)
	store, err := postgres.Open(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s3 := teststack.S3(t)
	blobs, err := blob.New(s3)
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := templates.New(pypi.New(pypi.Config{URL: "http://127.0.0.1:1/"}), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := channel.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := channel.LoadAuthority(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	w := &world{workflows: &workflows{random: rand.IntN}, store: store, hub: live.New(), s3: s3, db: db}
	nodes := channel.NewServer("", authority, nil, log)
	server := api.New(api.Config{
		ServerID: warpket.NewID(time.Now()), Store: store, Blobs: blobs, Catalog: catalog, Hub: w.hub, Secrets: secrets.New(keys, store), Nodes: nodes, Authority: authority,
		Workflows: w.workflows, Fleet: fleet{store, w.workflows}, Images: images, Fetcher: elsewhere(t), Platform: "linux/amd64", Now: w.clock, Log: log,
		Metrics: metrics.New(func(context.Context) ([]metrics.Level, error) { return nil, nil }),
		Random:  func(n int) int { return w.random(n) },
	})
	front := httptest.NewServer(server.Handler())
	t.Cleanup(front.Close)
	w.url = front.URL
	if _, err := store.EnsureProject(ctx, warpket.Project{ID: warpket.NewID(time.Now()), Name: warpket.DefaultProject, CreatedDate: time.Now()}); err != nil {
		t.Fatal(err)
	}
	id, secret := warpket.NewID(time.Now()), warpket.Secret()
	if err := store.CreateToken(ctx, warpket.Token{ID: id, Role: warpket.Operator, Name: "operator", SecretHash: warpket.HashSecret(secret), CreatedDate: time.Now()}); err != nil {
		t.Fatal(err)
	}
	w.token = warpket.TokenText(id, secret)
	w.addNode(t, "3.11")
	return w
}

// addNode makes the fleet have a node with a Python.
func (w *world) addNode(t *testing.T, python string) {
	t.Helper()
	id, secret, now := warpket.NewID(time.Now()), warpket.Secret(), time.Now()
	if err := w.store.CreateNodeToken(t.Context(), id, warpket.HashSecret(secret), now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	node, err := w.store.JoinNode(t.Context(), id, warpket.HashSecret(secret), warpket.Node{ID: warpket.NewID(now), Name: "node", Boot: warpket.NewID(now), CreatedDate: now})
	if err != nil {
		t.Fatal(err)
	}
	inventory := warpket.Inventory{Platform: "linux/amd64", CPU: 4000, Memory: 8 << 30, Pythons: []string{python}}
	if _, _, err := w.store.NodeIsUp(t.Context(), node, warpket.NewID(now), inventory, nil); err != nil {
		t.Fatal(err)
	}
}

func (w *world) send(t *testing.T, method, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func decode[T any](t *testing.T, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return v
}

func (w *world) function(t *testing.T, name string) string {
	t.Helper()
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"`+name+`","templateLanguageTag":"Python"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return decode[struct{ FunctionID string }](t, body).FunctionID
}

// operations are those of one path.
func operations(item *huma.PathItem) (ops []*huma.Operation) {
	for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Options, item.Head, item.Patch} {
		if op != nil {
			ops = append(ops, op)
		}
	}
	return ops
}

func TestTheDescriptionIsTheCommittedOne(t *testing.T) {
	t.Parallel()
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	for file, write := range map[string]func(*api.Server) ([]byte, error){"openapi.yaml": api.Document, "openapi-3.0.yaml": api.Document30} {
		want, err := write(s)
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(have), string(want)); diff != "" {
			t.Errorf("%s is not what the code says; \"make generate\" writes it:\n%.2000s", file, diff)
		}
	}
}

func TestEveryOperationHasAScopeAndOnlyHealthAndInvocationsArePublic(t *testing.T) {
	t.Parallel()
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	public := []string{"get-health", "get-readiness", "invoke-webhook"}
	seen := 0
	for path, item := range s.OpenAPI().Paths {
		for _, op := range operations(item) {
			seen++
			scope, known := s.Scope(op.OperationID)
			switch {
			case !known:
				t.Errorf("%s %s has no scope", op.OperationID, path)
			case (scope == api.Public) != slices.Contains(public, op.OperationID):
				t.Errorf("%s %s has the scope %s", op.OperationID, path, scope)
			case scope != api.Public && len(op.Security) == 0:
				t.Errorf("%s %s does not document its token", op.OperationID, path)
			}
			if op.Summary == "" || len(op.Tags) == 0 {
				t.Errorf("%s has no summary or tag", op.OperationID)
			}
		}
	}
	if seen < 30 {
		t.Errorf("there are only %d operations", seen)
	}
}

func TestOperationsWithoutAToken401BeforeTheirInputIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := api.New(api.Config{Log: slog.New(slog.DiscardHandler)})
	for path, item := range s.OpenAPI().Paths {
		for _, op := range operations(item) {
			if scope, _ := s.Scope(op.OperationID); scope == api.Public {
				continue
			}
			concrete := strings.NewReplacer("{functionId}", "x", "{version}", "x", "{path}", "x", "{id}", "x", "{tag}", "x", "{name}", "x").Replace(path)
			status, header, body := w.send(t, op.Method, concrete, "no JSON", "Authorization", "Bearer wk_wrong")
			if status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" || !strings.Contains(body, `"unauthenticated"`) {
				t.Errorf("%s %s without a token: %d %s", op.Method, path, status, body)
			}
		}
	}
}

func TestAnExecutionIsAnsweredWhenItsRowIsFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "answered")
	w.run = func(e warpket.Execution) {
		slot := warpket.Slot{ID: warpket.NewID(time.Now()), NodeID: warpket.NewID(time.Now()), Generation: 1}
		e, _, err := w.store.ClaimExecution(context.Background(), e.ID, slot, "node", warpket.NewID(time.Now()), time.Now())
		if err != nil {
			t.Error(err)
		}
		f := postgres.Finish{ID: e.ID, Attempt: e.Attempt, Status: warpket.Succeeded, Result: warpket.Payload{Inline: []byte(`{"counts":{"00":3}}`), Size: 19}}
		if _, err := w.store.FinishExecution(context.Background(), f, time.Now()); err != nil {
			t.Error(err)
		}
		e.Status, e.Result = f.Status, f.Result
		w.hub.Finished(e)
	}
	status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`"}`)
	e := decode[api.Execution](t, body)
	if status != http.StatusOK || e.Status != "succeeded" || string(e.Result) != `{"counts":{"00":3}}` {
		t.Errorf("answered %d %s", status, body)
	}
}

func TestAFunctionsLaneIsThatOfItsExecutionsUnlessTheySayOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "lanes")
	execute := func(more string) api.Execution {
		t.Helper()
		status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false`+more+`}`)
		if status != http.StatusAccepted {
			t.Fatalf("answered %d %s", status, body)
		}
		return decode[api.Execution](t, body)
	}
	if e := execute(""); e.Lane != "durable" || e.TemporalURL == "" {
		t.Errorf("unless set: %+v", e)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/functions/"+id, `{"lane":"express"}`); status != http.StatusOK || decode[api.Function](t, body).Lane != "express" {
		t.Errorf("changing the lane: %d %s", status, body)
	}
	if e := execute(""); e.Lane != "express" || e.TemporalURL != "" {
		t.Errorf("of an express function: %+v", e)
	}
	if e := execute(`,"lane":"durable"`); e.Lane != "durable" {
		t.Errorf("when it says otherwise: %+v", e)
	}
	if status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","lane":"fast"}`); status != http.StatusUnprocessableEntity {
		t.Errorf("a lane that is none: %d %s", status, body)
	}
}

func TestAReaderOfALogWhoConnectsAnewMissesNothingAndGetsNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "logs")
	claimed := make(chan warpket.Execution, 1)
	w.run = func(e warpket.Execution) {
		slot := warpket.Slot{ID: warpket.NewID(time.Now()), NodeID: warpket.NewID(time.Now()), Generation: 1}
		e, _, err := w.store.ClaimExecution(context.Background(), e.ID, slot, "node", warpket.NewID(time.Now()), time.Now())
		if err != nil {
			t.Error(err)
		}
		claimed <- e
	}
	w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
	e := <-claimed
	news := w.hub.Watch(e.ID) // as whoever drives it does
	defer news.Close()
	write := func(attempt int, offset int64, text string) {
		w.hub.Append(e.ID, live.Place{Attempt: attempt, Offset: offset}, []byte(text))
	}
	text, last := "", ""
	read := func(until string) (names []string) { // connects, reads until an event has this text or name
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/executions/"+string(e.ID)+"/log", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.token)
		req.Header.Set("Accept", "text/event-stream")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		for event, err := range client.Events(resp.Body) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, event.Name)
			part := decode[struct{ Text string }](t, string(event.Data)).Text
			text += part
			if event.ID != "" {
				last = event.ID
			}
			if event.Name == until || until == part {
				return names
			}
		}
		t.Fatalf("the stream ended after %v, without %q", names, until)
		return nil
	}

	write(1, 0, "one ")
	read("one ")
	write(1, 4, "two \xe2\x82") // a part of a character
	read("two ")
	write(1, 8, "\xe2\x82\xac ") // sent again, with the rest
	read("€ ")
	if text != "one two € " {
		t.Errorf("read %q", text)
	}

	write(2, 0, "again ")
	text = ""
	if names := read("again "); text != "again " || !slices.Equal(names, []string{"attempt", "log"}) {
		t.Errorf("of the next attempt came %v: %q", names, text)
	}
	f := postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Failed, Again: true}
	if _, err := w.store.FinishExecution(t.Context(), f, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.run(e)
	e = <-claimed
	f = postgres.Finish{ID: e.ID, Attempt: 2, Status: warpket.Succeeded, Log: warpket.Payload{Inline: []byte("again and done")}, LogSize: 14}
	if _, err := w.store.FinishExecution(t.Context(), f, time.Now()); err != nil {
		t.Fatal(err)
	}
	e.Status = f.Status
	w.hub.Finished(e)
	if names := read("end"); text != "again and done" || !slices.Equal(names, []string{"log", "end"}) {
		t.Errorf("to the end came %v: %q", names, text)
	}
	if status, _, body := w.send(t, "GET", "/v1/executions/"+string(e.ID)+"/log", "", "Accept", "text/event-stream", "Last-Event-ID", "seven"); status != http.StatusUnprocessableEntity {
		t.Errorf("an ID of no event: %d %s", status, body)
	}
}

func TestALogThatGoesToAnotherServerIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "logs")
	_, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
	e := decode[api.Execution](t, body)
	w.mu.Lock()
	w.follow = func(e warpket.Execution) {
		w.hub.Append(e.ID, live.Place{Attempt: 1}, []byte("hello"))
		w.hub.Append(e.ID, live.Place{Attempt: 1, Offset: 5}, []byte(" world"))
	}
	w.mu.Unlock()
	if _, log := w.want(t, 200, "GET", "/v1/executions/"+e.ID+"/log", ""); log != "hello world" {
		t.Errorf("it is %q", log)
	}
}

func TestWithoutTemporalAnExecutionIsAcceptedAndPromised(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "promised")
	w.down = warpket.Errorf(warpket.Unavailable, "Temporal is away")
	status, header, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
	e := decode[api.Execution](t, body)
	if status != http.StatusAccepted || header.Get("Location") != "/v1/executions/"+e.ID || e.Status != "queued" {
		t.Fatalf("answered %d %s", status, body)
	}
	if status, _, body := w.send(t, "GET", "/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("ready without Temporal: %d %s", status, body)
	}
}

func TestQueueFalseAnswersNoCapacityAndRecordsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "full")
	body := `{"functionId":"` + id + `","queue":false,"resources":{"cpu":4000}}`
	for range 2 { // fills the node
		slot := warpket.Slot{ID: warpket.NewID(time.Now()), Status: warpket.SlotPreparing, Resources: warpket.Resources{CPU: 2000, Memory: 1 << 30}, CreatedDate: time.Now()}
		w.lease(t, id, slot)
	}
	status, header, answer := w.send(t, "POST", "/v1/executions", body)
	if status != http.StatusServiceUnavailable || !strings.Contains(answer, `"no_capacity"`) || header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s", status, answer)
	}
	if _, _, list := w.send(t, "GET", "/v1/executions", ""); len(decode[api.List[api.Execution]](t, list).Items) != 0 {
		t.Errorf("it was recorded: %s", list)
	}
}

// lease holds a slot of a function on the only node.
func (w *world) lease(t *testing.T, function string, slot warpket.Slot) {
	t.Helper()
	fleet, err := w.store.Fleet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.store.Project(t.Context(), warpket.DefaultProject)
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.store.Version(t.Context(), p.ID, warpket.ID(function), 1)
	if err != nil {
		t.Fatal(err)
	}
	slot.NodeID, slot.ProjectID, slot.FunctionID, slot.SnapshotID, slot.RuntimeID = fleet[0].ID, p.ID, v.FunctionID, v.Snapshot.ID, v.Snapshot.RuntimeID
	if _, err := w.store.LeaseSlot(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
}

func TestListsComeInPagesThatHoldEachItemOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[string]bool{}
	for _, n := range []string{"one", "two", "three", "four", "five"} {
		want[w.function(t, n)] = true
	}
	cursor, pages := "", 0
	for {
		_, _, body := w.send(t, "GET", "/v1/functions?limit=2&cursor="+cursor, "")
		page := decode[api.List[api.Function]](t, body)
		pages++
		for _, f := range page.Items {
			if !want[f.FunctionID] {
				t.Errorf("%s came twice, or is none of ours", f.FunctionName)
			}
			delete(want, f.FunctionID)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d pages, and these are missing: %v", pages, want)
	}
}

func TestTheIndexBeingAwayIsSaidAndNothingIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // its index does not answer
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"bell","templateLanguageTag":"Qiskit"}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("answered %d %s", status, body)
	}
	if _, _, list := w.send(t, "GET", "/v1/functions", ""); len(decode[api.List[api.Function]](t, list).Items) != 0 {
		t.Errorf("left behind: %s", list)
	}
}

func TestASecretIsNotKeptForARepetition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, again := "", ""
	for _, body := range []*string{&first, &again} {
		_, _, *body = w.send(t, "POST", "/v1/tokens", `{"role":"viewer","name":"notebook"}`, "Idempotency-Key", "k")
	}
	a, b := decode[api.Token](t, first), decode[api.Token](t, again)
	if a.Token == "" || b.Token != "" || a.ID != b.ID {
		t.Errorf("answered %s, then %s", first, again)
	}
}

func TestTheDocsPageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, header, body := w.send(t, "GET", "/docs", "")
	if strings.Contains(body, "//") && strings.Contains(body, "http") || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Errorf("the page is %s", body)
	}
}

func TestAnEmptyFileNameIsNotFoundWhoeverAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/v1/functions/x/versions/1/files/", "/v1/functions/x/versions/1/files/%2F", "/v1/functions/x/versions/1/files/a%2F"} {
		if status, _, body := w.send(t, "GET", path, "", "Authorization", ""); status != http.StatusNotFound && status != http.StatusUnauthorized {
			t.Errorf("%s answers %d %s", path, status, body)
		}
	}
	if status, _, _ := w.send(t, "GET", "/healthz", ""); status != http.StatusOK {
		t.Errorf("then the server answers %d", status)
	}
}

func TestARepeatableRequestIsCheckedLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, body := w.send(t, "POST", "/v1/tokens", `{"role":"viewer","name":"viewer"}`)
	viewer := "Bearer " + decode[api.Token](t, body).Token
	create := `{"functionName":"bell","templateLanguageTag":"Python"}`
	if status, _, body := w.send(t, "POST", "/v1/functions", create, "Idempotency-Key", "k"); status != http.StatusOK {
		t.Fatalf("answered %d %s", status, body)
	}
	if status, _, body := w.send(t, "POST", "/v1/functions", create, "Idempotency-Key", "k", "Authorization", viewer); status != http.StatusForbidden {
		t.Errorf("a viewer gets the answer to a member: %d %s", status, body)
	}
	large := `{"name":"` + strings.Repeat("x", 2<<20) + `"}`
	if status, _, body := w.send(t, "POST", "/v1/projects", large, "Idempotency-Key", "k"); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the operation's bound: %d %.200s", status, body)
	}
}
