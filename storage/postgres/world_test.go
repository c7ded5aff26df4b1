package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/teststack"
)

// world is a store on a database of its own, with a project and a runtime.
type world struct {
	*postgres.Store

	t       *testing.T
	url     string
	project warpket.ID
	runtime warpket.Runtime
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, url: teststack.Postgres(t)}
	var err error
	w.Store, err = postgres.Open(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.project = w.addProject("one")
	w.runtime, err = w.EnsureRuntime(t.Context(), warpket.Runtime{
		ID: newID(), RuntimeKey: warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "1.0.0", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Qiskit", CreatedDate: now(),
	})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addProject(name string) warpket.ID {
	w.t.Helper()
	p := warpket.Project{ID: newID(), Name: name, CreatedDate: now()}
	w.must(w.CreateProject(w.t.Context(), p))
	return p.ID
}

// version is an unpublished version with one file, whose object has its row.
func (w *world) version(project, function warpket.ID, content string) warpket.Version {
	w.t.Helper()
	sum := warpket.SHA256([]byte(content))
	w.must(w.TouchObjects(w.t.Context(), []postgres.Object{{ProjectID: project, SHA256: sum, Size: int64(len(content))}}, now()))
	return warpket.Version{
		ID: newID(), ProjectID: project, FunctionID: function, CreatedDate: now(),
		Snapshot: warpket.Snapshot{
			ID: newID(), RuntimeID: w.runtime.ID, Entry: "handler.handler", Digest: sum, CreatedDate: now(),
			Files: []warpket.File{{ID: newID(), Path: "handler.py", Language: "python", SHA256: sum, Size: int64(len(content))}},
		},
	}
}

func (w *world) newFunction(project warpket.ID, name string) warpket.Function {
	return warpket.Function{
		ID: newID(), ProjectID: project, Name: name, TemplateTag: "Qiskit", SDK: "qiskit", SDKVersion: "1.0.0", CreatedDate: now(),
		Settings: warpket.Settings{Entry: "handler.handler", Lane: warpket.Durable, Reuse: warpket.ReuseProcess, Network: warpket.NoNetwork, Resources: warpket.DefaultResources, Gateway: warpket.GatewayToken},
	}
}

// addFunction adds a function with its first version.
func (w *world) addFunction(project warpket.ID, name string) (warpket.Function, warpket.Version) {
	w.t.Helper()
	f := w.newFunction(project, name)
	v := w.version(project, f.ID, "# "+name)
	w.must(w.CreateFunction(w.t.Context(), f, v))
	v, err := w.Version(w.t.Context(), project, f.ID, 1)
	w.must(err)
	f, err = w.Function(w.t.Context(), project, f.ID)
	w.must(err)
	return f, v
}

// addNode joins a node and connects it.
func (w *world) addNode(name string, inventory warpket.Inventory) warpket.Node {
	w.t.Helper()
	ctx := w.t.Context()
	token, hash := newID(), warpket.HashSecret(name)
	w.must(w.CreateNodeToken(ctx, token, hash, now(), now().Add(time.Hour)))
	id, err := w.JoinNode(ctx, token, hash, warpket.Node{ID: newID(), Name: name, Boot: newID(), CreatedDate: now()})
	w.must(err)
	_, _, err = w.NodeIsUp(ctx, id, newID(), inventory, nil)
	w.must(err)
	n, err := w.Node(ctx, id)
	w.must(err)
	return n
}

// inventory is that of a node with so many cores, GiB and devices.
func inventory(cores int, gib int64, devices ...string) warpket.Inventory {
	i := warpket.Inventory{Platform: "linux/amd64", CPU: cores * 1000, Memory: gib << 30, Pythons: []string{"3.11"}}
	for _, id := range devices {
		i.Devices = append(i.Devices, warpket.Device{ID: id, Kind: warpket.NVIDIA, Name: "GPU"})
	}
	return i
}

// newSlot is a slot of a version on a node, with one core and 1 GiB.
func newSlot(node warpket.Node, v warpket.Version, devices ...string) warpket.Slot {
	return warpket.Slot{
		ID: newID(), NodeID: node.ID, ProjectID: v.ProjectID, FunctionID: v.FunctionID, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Status: warpket.SlotPreparing, Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30, GPUs: len(devices)}, Devices: devices, Reason: "it has room", CreatedDate: now(),
	}
}

func (w *world) lease(slot warpket.Slot) warpket.Slot {
	w.t.Helper()
	slot, err := w.LeaseSlot(w.t.Context(), slot)
	w.must(err)
	return slot
}

func newExecution(f warpket.Function, v warpket.Version) warpket.Execution {
	return warpket.Execution{
		ID: newID(), ProjectID: f.ProjectID, FunctionID: f.ID, FunctionName: f.Name, VersionNumber: v.Number, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Lane: warpket.Durable, Target: warpket.CPU, Tags: []string{"a", "b"}, Input: warpket.Payload{Inline: []byte(`{"n":1}`), Size: 7},
		Shots: 100, Seed: 7, Status: warpket.Queued, ServerID: serverID, Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30, Timeout: time.Minute}, CreatedDate: now(),
	}
}

var serverID = warpket.NewID(time.Now())

func (w *world) addExecution(f warpket.Function, v warpket.Version) warpket.Execution {
	w.t.Helper()
	e := newExecution(f, v)
	created, err := w.CreateExecution(w.t.Context(), e)
	w.must(err)
	if !created {
		w.t.Fatal("it was there already")
	}
	return e
}

// claim takes an execution for a slot.
func (w *world) claim(e warpket.Execution, slot warpket.Slot) warpket.Execution {
	w.t.Helper()
	e, claimed, err := w.ClaimExecution(w.t.Context(), e.ID, slot, "node", newID(), now())
	w.must(err)
	if !claimed {
		w.t.Fatalf("execution %s is %s", e.ID, e.Status)
	}
	return e
}

func (w *world) execution(id warpket.ID) warpket.Execution {
	w.t.Helper()
	e, err := w.ExecutionByID(w.t.Context(), id)
	w.must(err)
	return e
}

// exec runs a statement behind the store's back.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	w.conn(func(conn *pgx.Conn) {
		_, err := conn.Exec(w.t.Context(), sql, args...)
		w.must(err)
	})
}

// count is the one number that a query gives.
func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	w.conn(func(conn *pgx.Conn) { w.must(conn.QueryRow(w.t.Context(), sql, args...).Scan(&n)) })
	return n
}

func (w *world) conn(use func(*pgx.Conn)) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	w.must(err)
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	use(conn)
}

// always refuses nothing.
func always[T any](T) error { return nil }

// race runs many at once.
func race(n int, run func(i int)) {
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			run(i)
		})
	}
	close(start)
	all.Wait()
}

// counter counts what many do at once.
type counter struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counter) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newID() warpket.ID { return warpket.NewID(time.Now()) }

func wantKind(t *testing.T, err error, want warpket.Kind) {
	t.Helper()
	if got := warpket.KindOf(err); got != want {
		t.Errorf("got kind %q (%v), want %q", got, err, want)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), "postgres://user:secret@host:notaport/x")
	wantKind(t, err, warpket.Invalid)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.Ping(t.Context()))
	config, err := pgx.ParseConfig(w.url)
	w.must(err)
	database := config.Database
	config.Database = "postgres"
	admin, err := pgx.ConnectConfig(t.Context(), config)
	w.must(err)
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{
		`alter database ` + database + ` allow_connections false`,
		`select pg_terminate_backend(pid) from pg_stat_activity where datname = '` + database + `'`,
	} {
		_, err := admin.Exec(t.Context(), sql)
		w.must(err)
	}
	for range 6 { // more than there are connections in the pool
		_, err := w.Project(t.Context(), "one")
		if k := warpket.KindOf(err); k != warpket.Unavailable {
			t.Fatalf("got kind %q: %v", k, err)
		}
	}
	wantKind(t, w.Ping(t.Context()), warpket.Unavailable)
}
