package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

func TestResourcesComeBackAsTheyWereSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "all")
	set := `{"cpu":2000,"memory":1073741824,"timeout":1.5,"gpus":2,"gpuMemory":42949672960,"migProfile":"1g.10gb","computeCapability":"8.0","cuda":"13.0","labels":{"zone":"a"},"spread":"prefer","isolation":"none","priority":-5,"qubits":4,"method":"stabilizer"}`
	status, _, body := w.send(t, "PATCH", "/v1/functions/"+id, `{"resources":`+set+`}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if diff := cmp.Diff(decode[api.Resources](t, set), decode[api.Function](t, body).Resources); diff != "" {
		t.Error(diff)
	}
	for name, bad := range map[string]string{
		"a profile that is none":    `{"migProfile":"big"}`,
		"a method that is none":     `{"method":"magic"}`,
		"more GPUs than a slot has": `{"gpus":65}`,
		"a spread that is none":     `{"spread":"thin"}`,
		"a label that is none":      `{"labels":{"a b":"c"}}`,
		"too high a priority":       `{"priority":101}`,
	} {
		if status, _, body := w.send(t, "PATCH", "/v1/functions/"+id, `{"resources":`+bad+`}`); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestAnExecutionGetsWhatItAsksForOrIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.simulator(t)
	id := w.function(t, "asks")
	tests := map[string]struct {
		asks   string
		status int
		says   []string
	}{
		"34 qubits are refused, with what would fit": {`"resources":{"qubits":34}`, http.StatusUnprocessableEntity, []string{"274877906944 bytes", "16 GiB", "stabilizer", "matrix_product_state"}},
		"so they are where nobody waits":             {`"queue":false,"resources":{"qubits":34}`, http.StatusUnprocessableEntity, []string{"274877906944 bytes"}},
		"more than any slot may have":                {`"resources":{"qubits":34,"method":"density_matrix"}`, http.StatusUnprocessableEntity, []string{"4722366482869645213696 bytes"}},
		"a method that fits is taken":                {`"resources":{"qubits":34,"method":"stabilizer"}`, http.StatusAccepted, []string{`"method":"stabilizer"`}},
		"and gets its memory":                        {`"resources":{"qubits":26}`, http.StatusAccepted, []string{`"memory":1342177280`, `"method":"statevector"`}},
		"a GPU is waited for where there is none":    {`"resources":{"gpus":1}`, http.StatusAccepted, []string{`"gpus":1`}},
		"or refused at once":                         {`"queue":false,"resources":{"gpus":1}`, http.StatusServiceUnavailable, []string{"needs 1 GPU", "has no GPU"}},
		"labels that no node has are waited for":     {`"resources":{"labels":{"zone":"a"}}`, http.StatusAccepted, nil},
		"or told of at once":                         {`"queue":false,"resources":{"labels":{"zone":"a"}}`, http.StatusServiceUnavailable, []string{"lacks the label zone=a", "without the labels"}},
		"a device that no node has is refused":       {`"device":"no-such"`, http.StatusUnprocessableEntity, []string{"no-such"}},
		"the device that there is":                   {`"device":"simulator"`, http.StatusAccepted, []string{`"device":"simulator"`}},
		"isolation that no node has is refused":      {`"resources":{"isolation":"gvisor"}`, http.StatusUnprocessableEntity, []string{"gvisor"}},
	}
	for name, test := range tests { // at once: the node is silent in ten seconds
		status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false,`+test.asks+`}`)
		if status != test.status {
			t.Errorf("%s: answered %d %s", name, status, body)
		}
		for _, says := range test.says {
			if !strings.Contains(body, says) {
				t.Errorf("%s: %q does not say %q", name, body, says)
			}
		}
	}
}

// simulator adds a node of 16 GiB with a simulator.
func (w *world) simulator(t *testing.T) {
	t.Helper()
	id, secret, now := warpket.NewID(time.Now()), warpket.Secret(), time.Now()
	if err := w.store.CreateNodeToken(t.Context(), id, warpket.HashSecret(secret), now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	node, err := w.store.JoinNode(t.Context(), id, warpket.HashSecret(secret), warpket.Node{ID: warpket.NewID(now), Name: "laptop", Boot: warpket.NewID(now), CreatedDate: now})
	if err != nil {
		t.Fatal(err)
	}
	inventory := warpket.Inventory{
		Platform: "linux/amd64", CPU: 4000, Memory: 16 << 30, Pythons: []string{"3.11"},
		Devices: []warpket.Device{{ID: "simulator", Kind: warpket.QuantumSimulator, Name: "local simulator", Memory: 16 << 30, Methods: []string{"statevector", "density_matrix", "stabilizer", "matrix_product_state"}}},
	}
	if _, _, err := w.store.NodeIsUp(t.Context(), node, warpket.NewID(now), inventory, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWaitsTellsItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "waits")
	server := warpket.NewID(time.Now())
	if _, err := w.store.RenewServer(t.Context(), postgres.Server{ID: server, Channel: "c", Peer: "p"}); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		_, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
		ids = append(ids, decode[api.Execution](t, body).ID)
	}
	place := func(id string) *api.Queue {
		t.Helper()
		_, _, body := w.send(t, "GET", "/v1/executions/"+id, "")
		return decode[api.Execution](t, body).Queue
	}
	if q := place(ids[1]); q == nil || q.Position != 2 || q.EstimatedStartDate != nil || q.Reason != "" {
		t.Errorf("the second stands at %+v", q)
	}
	e, err := w.store.ExecutionByID(t.Context(), warpket.ID(ids[0]))
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := w.send(t, "POST", "/v1/functions/"+id+"/versions/1/deployments", `{}`)
	d := decode[api.Deployment](t, body)
	for _, wait := range []warpket.Wait{
		{SubjectID: warpket.ID(d.ID), Kind: warpket.DeploymentWaits, Need: warpket.Need{Resources: warpket.Resources{CPU: 2000, Memory: 1 << 30, Priority: 7}}},
		{SubjectID: warpket.SharedWait(e.SnapshotID, e.Resources), Kind: warpket.SnapshotWaits},
	} {
		wait.ServerID, wait.ProjectID, wait.Reason = server, e.ProjectID, "needs more room"
		wait.Decision = &warpket.Decision{Rejected: []warpket.Rejection{{Reason: "too few free cores", Nodes: 1}}, Hints: []string{"with at most 1 cores"}}
		if err := w.store.Wait(t.Context(), wait); err != nil {
			t.Fatal(err)
		}
	}
	want := &api.Queue{Position: 3, Reason: "needs more room", Rejected: []api.Rejection{{Reason: "too few free cores", Nodes: 1, Examples: []string{}}}, Hints: []string{"with at most 1 cores"}}
	if diff := cmp.Diff(want, place(ids[1])); diff != "" {
		t.Error(diff)
	}
	want.Position = 1
	deployed := func() *api.Queue {
		_, _, body := w.send(t, "GET", "/v1/deployments/"+d.ID, "")
		return decode[api.Deployment](t, body).Queue
	}
	if diff := cmp.Diff(want, deployed()); diff != "" {
		t.Error(diff)
	}
	// Slots on demand come free: one in the mean time for which they have been
	// held, and with two of them in half of that.
	begun := w.clock()
	for _, held := range []time.Duration{10 * time.Minute, 20 * time.Minute} {
		w.lease(t, id, warpket.Slot{ID: warpket.NewID(time.Now()), Status: warpket.SlotReady, Resources: warpket.Resources{CPU: 2000, Memory: 1 << 30}, CreatedDate: begun.Add(-held)})
	}
	q := deployed()
	if at := q.EstimatedStartDate; at == nil || at.Before(begun.Add(15*time.Minute/2-time.Millisecond)) || at.After(w.clock().Add(15*time.Minute/2+time.Minute)) {
		t.Errorf("it starts at %v", at)
	}
	if q := place(ids[1]); q.EstimatedStartDate != nil {
		t.Errorf("behind one of which nobody knows how long it takes it starts at %s", q.EstimatedStartDate)
	}
	if q := place(ids[0]); q.EstimatedStartDate == nil || !q.EstimatedStartDate.After(begun.Add(15*time.Minute-time.Second)) {
		t.Errorf("second of all that wait it starts at %v", q.EstimatedStartDate)
	}
}

func TestProjectsHaveAWeightAndAPriority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status, _, body := w.send(t, "PATCH", "/v1/projects/default", `{"weight":2.5,"maxPriority":10}`)
	if p := decode[api.Project](t, body); status != http.StatusOK || p.Weight != 2.5 || p.MaxPriority != 10 {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/projects/default", `{"weight":0}`); status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", status, body)
	}
}
