package qinling_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/api/qinling"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/sources"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/templates"
	"github.com/warpket/warpket/teststack"
)

// world is a server with Qinling's wire, and stands for Temporal and the nodes:
// it records what was started, and ends executions as it is told to.
type world struct {
	store *postgres.Store
	hub   *live.Hub
	db    string // URL of the database
	url   string // of the wire
	token string // an operator's
	other string // a member's of another project

	mu       sync.Mutex
	deployed []warpket.Deployment
	scaled   []int
	detached []warpket.ID
	finish   func(warpket.Execution) *postgres.Finish // how executions end; nil: they do not
}

func (w *world) StartDeployment(_ context.Context, d warpket.Deployment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deployed = append(w.deployed, d)
	return nil
}

func (w *world) StartRuntime(ctx context.Context, r warpket.Runtime) error {
	_, err := w.store.SaveRuntime(ctx, r.BuildID(), warpket.RuntimeAvailable, "", "", time.Now())
	return err
}

func (w *world) Scale(ctx context.Context, d warpket.ID, slots int, seen time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scaled = append(w.scaled, slots)
	return w.store.ScaleDeployment(ctx, d, slots, seen, time.Now())
}

func (w *world) Detach(ctx context.Context, d warpket.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detached = append(w.detached, d)
	return w.store.AdvanceDeployment(ctx, d, warpket.DeploymentDetached, "", time.Now())
}
func (w *world) DeploymentURL(warpket.ID) string { return "" }
func (w *world) ExecutionURL(warpket.ID) string  { return "" }
func (w *world) ScheduleURL(warpket.ID) string   { return "" }
func (w *world) Ready(context.Context) error     { return nil }

func (w *world) Launch(ctx context.Context, e warpket.Execution, _ bool) error {
	if _, err := w.store.CreateExecution(ctx, e); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finish == nil {
		return nil
	}
	f := w.finish(e)
	f.ID, f.Lane = e.ID, e.Lane
	if _, err := w.store.FinishExecution(ctx, *f, time.Now()); err != nil {
		return err
	}
	e, err := w.store.ExecutionByID(ctx, e.ID)
	w.hub.Finished(e)
	return err
}

func (w *world) CancelExecution(ctx context.Context, project, id warpket.ID) (warpket.Execution, error) {
	return w.store.AskCancel(ctx, project, id, warpket.Failure{Code: warpket.CancelledCode}, time.Now())
}
func (w *world) FollowLog(context.Context, warpket.Execution)             {}
func (w *world) ReleaseAll(context.Context, warpket.ID, postgres.Deleted) {}
func (w *world) ScheduleChanged(context.Context, warpket.ID)              {}

// Room is always there, and no node is fenced.
func (w *world) Room(context.Context, warpket.Need, bool) error { return nil }

func (w *world) Fence(context.Context, warpket.ID) (warpket.Node, error) {
	return warpket.Node{}, warpket.Errorf(warpket.NotFound, "there is no node")
}

// Resolve has every image with a tag stand for one digest.
func (w *world) Resolve(_ context.Context, reference string, _ warpket.RegistryAuth) (string, error) {
	repository, _, ok := strings.Cut(reference, ":")
	if !ok {
		return "", warpket.Errorf(warpket.Invalid, "%q is not the reference of an image", reference)
	}
	return repository + "@sha256:" + strings.Repeat("1", 64), nil
}

// Git has no repositories.
func (w *world) Git(_ context.Context, from warpket.Source, _ warpket.RegistryAuth) ([]sources.File, warpket.Source, error) {
	return nil, from, warpket.Errorf(warpket.Invalid, "there is no repository")
}

// Object has one object in one bucket.
func (w *world) Object(_ context.Context, from warpket.Source, _ *warpket.ObjectAuth) ([]sources.File, warpket.Source, error) {
	if from.Bucket != "functions" {
		return nil, from, warpket.Errorf(warpket.Invalid, "there is no bucket %q", from.Bucket)
	}
	return []sources.File{{Path: from.Key, Content: []byte("def main(**kwargs): return 1\n")}}, from, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	db := teststack.Postgres(t)
	store, err := postgres.Open(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	blobs, err := blob.New(teststack.S3(t))
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
	log := slog.New(slog.DiscardHandler)
	w := &world{store: store, hub: live.New(), db: db}
	w.finish = func(e warpket.Execution) *postgres.Finish {
		return &postgres.Finish{
			Status: warpket.Succeeded, Result: warpket.Payload{Inline: []byte(`"Hello, <b>"`), Size: 12}, Log: warpket.Payload{Inline: []byte("printed"), Size: 7}, LogSize: 7,
			Timings: warpket.Timings{Ran: 44 * time.Millisecond},
		}
	}
	for _, name := range []string{warpket.DefaultProject, "other"} {
		p, err := store.EnsureProject(ctx, warpket.Project{ID: warpket.NewID(time.Now()), Name: name, CreatedDate: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		id, secret := warpket.NewID(time.Now()), warpket.Secret()
		token := warpket.Token{ID: id, Role: warpket.Operator, Name: "operator", SecretHash: warpket.HashSecret(secret), CreatedDate: time.Now()}
		if name == "other" {
			token.Role, token.ProjectID, w.other = warpket.Member, p.ID, warpket.TokenText(id, secret)
		} else {
			w.token = warpket.TokenText(id, secret)
		}
		if err := store.CreateToken(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	server := api.New(api.Config{
		ServerID: warpket.NewID(time.Now()), Store: store, Blobs: blobs, Catalog: catalog, Hub: w.hub, Secrets: secrets.New(secrets.Keyring{}, store), Nodes: channel.NewServer("", authority, nil, log),
		Authority: authority, Workflows: w, Fleet: w, Images: w, Fetcher: w, Platform: "linux/amd64", Now: time.Now, Log: log,
		Wires: map[string]api.Wire{qinling.Prefix: qinling.New(qinling.Config{NotUsed: w.token})},
	})
	front := httptest.NewServer(server.Handler())
	t.Cleanup(front.Close)
	w.url = front.URL + qinling.Prefix
	w.addNode(t)
	return w
}

// repeat makes the execution of this ID so many more times, after it.
func (w *world) repeat(t *testing.T, id string, times int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `insert into executions (id, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags, input_size, shots, seed, resources, retries, status, created_date)
		select (left(id::text, 13) || '-7fff-bfff-' || lpad(to_hex(i), 12, '0'))::uuid, project_id, function_id, function_name, version_number, snapshot_id, runtime_id, lane, target, description, tags, input_size, shots, seed, resources, retries, status, created_date
		from executions, generate_series(1, $2) i where id = $1`, id, times)
	if err != nil {
		t.Fatal(err)
	}
}

// addNode makes the fleet have a node.
func (w *world) addNode(t *testing.T) {
	t.Helper()
	id, secret, now := warpket.NewID(time.Now()), warpket.Secret(), time.Now()
	if err := w.store.CreateNodeToken(t.Context(), id, warpket.HashSecret(secret), now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	node, err := w.store.JoinNode(t.Context(), id, warpket.HashSecret(secret), warpket.Node{ID: warpket.NewID(now), Name: "node", Boot: warpket.NewID(now), CreatedDate: now})
	if err != nil {
		t.Fatal(err)
	}
	inventory := warpket.Inventory{Platform: "linux/amd64", CPU: 4000, Memory: 8 << 30, Pythons: []string{"3.11"}}
	if _, _, err := w.store.NodeIsUp(t.Context(), node, warpket.NewID(now), inventory, nil); err != nil {
		t.Fatal(err)
	}
}

type object = map[string]any

// answer is what a request was answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request to a path of the wire, or to a whole URL: body is a text as
// it is, or anything as JSON.
func (w *world) send(t *testing.T, method, path string, body any, header ...string) answer {
	t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	if strings.HasPrefix(path, "/") {
		path = w.url + path
	}
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", w.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	once := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// ok sends a request that is to be answered with a status, and gives the answer's
// object.
func (w *world) ok(t *testing.T, want int, method, path string, body any, header ...string) object {
	t.Helper()
	a := w.send(t, method, path, body, header...)
	if a.status != want {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	if a.body == "" {
		return nil
	}
	var out object
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		t.Fatalf("%s %s: %q is no object: %v", method, path, a.body, err)
	}
	return out
}

// refused sends a request that is to be refused with a status and a message.
func (w *world) refused(t *testing.T, status int, message, method, path string, body any, header ...string) {
	t.Helper()
	a := w.send(t, method, path, body, header...)
	var f struct {
		Code  string  `json:"faultcode"`
		Text  string  `json:"faultstring"`
		Debug *string `json:"debuginfo"`
	}
	if err := json.Unmarshal([]byte(a.body), &f); err != nil || a.status != status || f.Code == "" || !strings.Contains(f.Text, message) || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Errorf("%s %s: %d %s %q; want %d %q", method, path, a.status, a.header.Get("Content-Type"), a.body, status, message)
	}
}

// zipped is a zip of one file, with its MD5.
func zipped(t *testing.T, name, content string) (file []byte, sum string) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	out, err := z.Create(name)
	if err == nil {
		_, err = out.Write([]byte(content))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	md := md5.Sum(b.Bytes())
	return b.Bytes(), hex.EncodeToString(md[:])
}

// form is a multipart form with a package, and its type.
func form(t *testing.T, file []byte, values map[string]string) (body, kind string) {
	t.Helper()
	var b bytes.Buffer
	f := multipart.NewWriter(&b)
	for name, value := range values {
		if err := f.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if file != nil {
		out, err := f.CreateFormFile("package", "package.zip")
		if err == nil {
			_, err = out.Write(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), f.FormDataContentType()
}

// runtime makes a runtime of plain Python.
func (w *world) runtime(t *testing.T) string {
	t.Helper()
	id, _ := w.ok(t, 201, "POST", "/v1/runtimes", object{"name": "python3", "image": "openstackqinling/python3-runtime"})["id"].(string)
	return id
}

// function makes a function of a package.
func (w *world) function(t *testing.T, runtime, name, content string, header ...string) string {
	t.Helper()
	file, sum := zipped(t, "main.py", content)
	body, kind := form(t, file, map[string]string{"name": name, "runtime_id": runtime, "code": `{"source": "package", "md5sum": "` + sum + `"}`})
	id, _ := w.ok(t, 201, "POST", "/v1/functions", body, append([]string{"Content-Type", kind}, header...)...)["id"].(string)
	return id
}

// items are those of a list.
func items(t *testing.T, list object, key string) []object {
	t.Helper()
	all, ok := list[key].([]any)
	if !ok {
		t.Fatalf("%v has no list %s", list, key)
	}
	out := make([]object, len(all))
	for i, item := range all {
		out[i], _ = item.(object)
	}
	return out
}
