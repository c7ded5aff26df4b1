package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/teststack"
)

func TestAScheduleFiresForTheTimeThatTemporalNames(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	at := time.Date(2026, 11, 27, 15, 0, 0, 0, time.UTC)
	if err := env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(scheduledAt.ValueSet(at))); err != nil {
		t.Fatal(err)
	}
	env.OnActivity(a.Fire, mock.Anything, mock.MatchedBy(func(in FireInput) bool { return in.ScheduleID == id && in.At.Equal(at) })).Return(nil).Once()
	env.ExecuteWorkflow(FireSchedule, FireScheduleInput{id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestACallbackIsTriedTenTimesAndThenGivenUp(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.SendCallback, mock.Anything, id).Return(errors.New("the server answered 503")).Times(10)
	env.OnActivity(a.FailCallback, mock.Anything, id).Return(nil).Once()
	env.ExecuteWorkflow(DeliverCallback, DeliverCallbackInput{id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestACallbackThatIsTakenIsSentOnce(t *testing.T) {
	t.Parallel()
	env := environment(t)
	var a *Activities
	env.OnActivity(a.SendCallback, mock.Anything, id).Return(nil).Once()
	env.ExecuteWorkflow(DeliverCallback, DeliverCallbackInput{id})
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

func TestSignaturesAreThoseOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ secret, want string }{
		"of bytes":      {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,9o7UeFkn1GjVbcY4emAJruJCYqgH2EIf8u/slvVRBZI="},
		"of plain text": {"plain", "v1,MYOyuPA7qb6wbFOFBNgfZB1U0seqAN8fZ/idtBEYsxA="},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := signature(tt.secret, "msg_1", "1614265330", []byte(`{"test": 2432232314}`)); got != tt.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

// driven is activities with Temporal, on namespaces of their own.
func (c *cluster) driven() *Activities {
	t := c.t
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	unique := strings.ReplaceAll(string(warpket.NewID(time.Now())), "-", "")
	temporal, err := Connect(t.Context(), Temporal{Address: teststack.Temporal(t), ExecutionNamespace: "e" + unique, DeploymentNamespace: "d" + unique}, log)
	c.must(err)
	t.Cleanup(temporal.Close)
	keys, err := secrets.ParseKeyring(secrets.NewOperatorKey())
	c.must(err)
	a := New(Config{
		ServerID: warpket.NewID(time.Now()), Store: c.store, Hub: live.New(), Catalog: cpuOnly{}, Secrets: secrets.New(keys, c.store), Client: temporal, Now: time.Now,
		Callbacks: http.DefaultTransport, Log: log,
	})
	a.Nodes = channel.NewServer(a.ServerID, c.authority, &Fleet{Activities: a}, log)
	probe := warpket.Schedule{ID: "probe", Pattern: "@yearly"}
	for a.Client.setSchedule(t.Context(), probe) != nil { // search attributes that were just made are known a moment later
		c.must(t.Context().Err())
	}
	return a
}

type cpuOnly struct{}

func (cpuOnly) Template(string) (warpket.Template, error) {
	return warpket.Template{Targets: []warpket.Target{warpket.CPU}}, nil
}

// function adds a function with a version.
func (c *cluster) function() (warpket.Function, warpket.Version) {
	t := c.t
	t.Helper()
	now := time.Now()
	runtime, err := c.store.EnsureRuntime(t.Context(), warpket.Runtime{ID: warpket.NewID(now), RuntimeKey: warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "1.0.0", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Qiskit", CreatedDate: now})
	c.must(err)
	f := warpket.Function{
		ID: warpket.NewID(now), ProjectID: c.project, Name: "bell", TemplateTag: "Qiskit", SDK: "qiskit", SDKVersion: "1.0.0", CreatedDate: now,
		Settings: warpket.Settings{Entry: "handler.handler", Lane: warpket.Express, Resources: warpket.DefaultResources, Retries: 1},
	}
	c.must(c.store.CreateFunction(t.Context(), f, warpket.Version{
		ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, CreatedDate: now,
		Snapshot: warpket.Snapshot{ID: warpket.NewID(now), RuntimeID: runtime.ID, Entry: "handler.handler", Digest: "x", CreatedDate: now},
	}))
	v, err := c.store.Version(t.Context(), c.project, f.ID, 1)
	c.must(err)
	return f, v
}

func (c *cluster) schedule(f warpket.Function, change func(*warpket.Schedule)) warpket.Schedule {
	t := c.t
	t.Helper()
	now := time.Now()
	s := warpket.Schedule{ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, Input: []byte(`{"n":1}`), Description: "nightly", Status: warpket.ScheduleRunning, CreatedDate: now}
	change(&s)
	c.must(s.Check())
	c.must(s.Begin(now))
	c.must(c.store.CreateSchedule(t.Context(), s))
	return s
}

func TestTemporalFiresWhenTheRecordSays(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.driven()
	year := time.Now().Year() + 1
	date := func(month time.Month, day int) *time.Time {
		return new(time.Date(year, month, day, 12, 0, 1, 0, time.UTC))
	}
	tests := map[string]struct {
		pattern, zone string
		first         *time.Time
	}{
		"every minute":            {"* * * * *", "", nil},
		"names, ranges and steps": {"5-59/20 */6 * JAN-MAR,dec MON-FRI", "Asia/Tokyo", nil},
		"either day":              {"0 12 13 * FRI", "", nil},
		"7 is Sunday":             {"@weekly", "Europe/Berlin", nil},
		"Sunday as 7":             {"15 3 * * 7", "Europe/Berlin", nil},
		"29 February":             {"0 0 29 2 *", "", nil},
		"a first time":            {"*/30 * * * *", "", date(6, 1)},
		"once":                    {"", "", date(6, 1)},
		"a skipped hour":          {"30 2 * * *", "America/New_York", date(3, 7)},
		"each half hour of it":    {"*/30 1-3 * * *", "America/New_York", date(3, 13)},
		"a repeated hour":         {"30 1 * * *", "America/New_York", date(11, 1)},
		"the same in the east":    {"*/30 1-3 * * *", "Europe/Berlin", date(3, 27)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := warpket.Schedule{ID: warpket.NewID(time.Now()), Pattern: tt.pattern, TimeZone: tt.zone, FirstTime: tt.first, Status: warpket.ScheduleRunning}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			if err := a.Client.setSchedule(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			about, err := a.Client.executions.ScheduleClient().GetHandle(t.Context(), string(s.ID)).Describe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(about.Info.NextActionTimes) == 0 {
				t.Fatal("Temporal knows no next time")
			}
			if err := s.Begin(about.Info.NextActionTimes[0].Add(-time.Second)); err != nil {
				t.Fatal(err)
			}
			for i, want := range about.Info.NextActionTimes {
				if s.NextTime == nil || !s.NextTime.Equal(want) {
					t.Fatalf("time %d: Temporal fires at %s, the record says %v", i, want.UTC(), s.NextTime)
				}
				s.Fired(want, want, "x", "")
			}
		})
	}
}

func TestAScheduleCreatesItsExecutionWhenItsTimeHasCome(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.driven()
	f, v := c.function()
	ctx, cancel := context.WithCancel(t.Context())
	w := a.Client.executionWorker(a)
	c.must(w.Start())
	t.Cleanup(w.Stop)
	defer cancel()
	s := c.schedule(f, func(s *warpket.Schedule) { c.must(s.SetFirst(time.Now().Add(2*time.Second), time.Now())) })
	a.scheduleChanged(ctx, s.ID)
	for s.Status != warpket.ScheduleDone {
		var err error
		s, err = c.store.Schedule(ctx, c.project, s.ID)
		c.must(err)
	}
	e, err := c.store.Execution(ctx, c.project, s.LastExecutionID)
	c.must(err)
	if e.SnapshotID != v.Snapshot.ID || e.Lane != warpket.Durable || e.Description != "nightly" || string(e.Input.Inline) != `{"n":1}` || e.Retries != 1 || !s.LastTime.Equal(*s.FirstTime) {
		t.Errorf("created %+v, by %+v", e, s)
	}
	c.must(a.Fire(ctx, FireInput{s.ID, *s.LastTime})) // again
	all, _, err := c.store.Executions(ctx, c.project, postgres.ExecutionFilter{}, postgres.Page{Limit: 10})
	c.must(err)
	if len(all) != 1 {
		t.Errorf("there are %d executions", len(all))
	}
}

func TestSchedulesComeBackWhenTemporalWasWiped(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.driven()
	f, _ := c.function()
	running := c.schedule(f, func(s *warpket.Schedule) { s.Pattern = "@daily" })
	paused := c.schedule(f, func(s *warpket.Schedule) { s.Pattern, s.Status = "@daily", warpket.SchedulePaused })
	cancelled := c.schedule(f, func(s *warpket.Schedule) { s.Pattern, s.Status = "@daily", warpket.ScheduleCancelled })
	c.must(a.resumeSchedules(t.Context()))
	state := func(id warpket.ID) string {
		about, err := a.Client.executions.ScheduleClient().GetHandle(t.Context(), string(id)).Describe(t.Context())
		if err != nil {
			return "absent"
		}
		return map[bool]string{false: "running", true: "paused"}[about.Schedule.State.Paused]
	}
	want := map[warpket.ID]string{running.ID: "running", paused.ID: "paused", cancelled.ID: "absent"}
	for id := range want {
		if got := state(id); got != want[id] {
			t.Errorf("%s is %s, not %s", id, got, want[id])
		}
	}
	_, err := c.store.UpdateSchedule(t.Context(), c.project, running.ID, time.Now(), func(s *warpket.Schedule) error { return s.Advance(warpket.SchedulePaused, time.Now()) })
	c.must(err)
	a.scheduleChanged(t.Context(), running.ID)
	c.must(c.store.DeleteSchedule(t.Context(), c.project, paused.ID, func(warpket.Schedule) error { return nil }))
	a.scheduleChanged(t.Context(), paused.ID)
	if state(running.ID) != "paused" || state(paused.ID) != "absent" {
		t.Errorf("after a pause it is %s, after a deletion %s", state(running.ID), state(paused.ID))
	}
}

func TestATimeThatWasMissedForLongIsLeftOutAndOneThatCannotBeIsTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	f, _ := c.function()
	a := New(Config{Store: c.store, Catalog: cpuOnly{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	missed := c.schedule(f, func(s *warpket.Schedule) { s.Pattern, s.Count = "* * * * *", new(3) })
	c.exec(`update schedules set next_time = now() - interval '1 hour' where id = $1`, missed.ID)
	gone := c.schedule(f, func(s *warpket.Schedule) { s.Pattern = "* * * * *" })
	c.exec(`update schedules set next_time = now(), alias = 'gone' where id = $1`, gone.ID)
	c.must(a.fireOverdue(t.Context()))
	c.must(a.Fire(t.Context(), FireInput{gone.ID, time.Now().Add(time.Second)}))
	for name, id := range map[string]warpket.ID{"missed": missed.ID, "gone": gone.ID} {
		s, err := c.store.Schedule(t.Context(), c.project, id)
		c.must(err)
		if s.LastError == "" || s.LastExecutionID != "" || s.Status != warpket.ScheduleRunning || !s.NextTime.After(time.Now()) || s.Count != nil && *s.Count != 3 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// finished is an execution that has ended and whose callback is to be sent.
func (c *cluster) finished(f warpket.Function, v warpket.Version, callback warpket.Callback) warpket.Execution {
	t := c.t
	t.Helper()
	now := time.Now()
	callback.Status = warpket.CallbackPending
	e := warpket.Execution{
		ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, FunctionName: f.Name, VersionNumber: 1, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID, Lane: warpket.Express, Target: warpket.CPU,
		Tags: []string{"a"}, Status: warpket.Running, Attempt: 1, Resources: warpket.DefaultResources, CreatedDate: now, Callback: &callback,
	}
	_, err := c.store.CreateExecution(t.Context(), e)
	c.must(err)
	_, err = c.store.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Lane: e.Lane, Attempt: 1, Status: warpket.Succeeded, Result: warpket.Payload{Inline: []byte(`{"00":512}`), Size: 10}, Callback: true}, now)
	c.must(err)
	return e
}

func TestACallbackTellsTheOutcomeSigned(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	keys, err := secrets.ParseKeyring(secrets.NewOperatorKey())
	c.must(err)
	vault := secrets.New(keys, c.store)
	const secret = "canary"
	sealed, err := vault.Seal(t.Context(), c.project, "KEY", secret)
	c.must(err)
	now := time.Now()
	c.must(c.store.CreateSecret(t.Context(), warpket.StoredSecret{ID: warpket.NewID(now), ProjectID: c.project, Name: "KEY", CreatedDate: now, UpdatedDate: now}, postgres.Sealed{Ciphertext: sealed, Size: len(secret)}))
	answers := make(chan int, 3)
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 3)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, body}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(<-answers)
	}))
	t.Cleanup(server.Close)
	f, v := c.function()
	a := New(Config{Store: c.store, Secrets: vault, Callbacks: http.DefaultTransport, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	e := c.finished(f, v, warpket.Callback{URL: server.URL + "/done", Secret: "KEY"})
	for i, status := range []int{http.StatusFound, http.StatusServiceUnavailable, http.StatusNoContent} {
		answers <- status
		if err := a.SendCallback(t.Context(), e.ID); (err == nil) != (status == http.StatusNoContent) {
			t.Errorf("answered %d: %v", status, err)
		}
		got := <-calls
		at := got.header.Get("Webhook-Timestamp")
		if got.header.Get("Webhook-Id") != string(e.ID) || got.header.Get("Webhook-Signature") != signature(secret, string(e.ID), at, got.body) {
			t.Errorf("signed %v", got.header)
		}
		var body callbackBody
		c.must(json.Unmarshal(got.body, &body))
		if body.Type != "execution.finished" || body.Data.ID != e.ID || body.Data.Status != warpket.Succeeded || string(body.Data.Result) != `{"00":512}` {
			t.Errorf("told %s", got.body)
		}
		now, err := c.store.ExecutionByID(t.Context(), e.ID)
		c.must(err)
		if now.Callback.Attempts != i+1 || (now.Callback.LastError != "") != (status != http.StatusNoContent) || strings.Contains(fmt.Sprint(now.Callback), secret) {
			t.Errorf("recorded %+v", now.Callback)
		}
	}
	c.must(a.SendCallback(t.Context(), e.ID)) // it is delivered: nothing is sent
	if len(calls) != 0 {
		t.Error("it was sent again")
	}
}

// refusing is a network on which nothing may be dialled.
type refusing struct{ err error }

func (r refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, r.err }

func TestACallbackThatCannotBeSentTellsNothingOfOurNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	f, v := c.function()
	tests := map[string]struct {
		err  error
		want string
	}{
		"an address that may not be called": {warpket.Errorf(warpket.Denied, "10.0.0.1 is not a public address"), "the address of its host is not one that may be called"},
		"nobody there":                      {errors.New("dial tcp 10.0.0.1:80: connection refused"), "the server could not be reached"},
		"nobody answers":                    {context.DeadlineExceeded, "the server did not answer within 20s"},
	}
	got := map[string]string{}
	want := map[string]string{}
	for name, tt := range tests {
		a := New(Config{Store: c.store, Callbacks: refusing{tt.err}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		e := c.finished(f, v, warpket.Callback{URL: "https://internal.example/"})
		if err := a.SendCallback(t.Context(), e.ID); err == nil || strings.Contains(err.Error(), "10.0.0.1") {
			t.Errorf("%s: %v", name, err)
		}
		now, err := c.store.ExecutionByID(t.Context(), e.ID)
		c.must(err)
		got[name], want[name] = now.Callback.LastError, tt.want
		c.must(a.FailCallback(t.Context(), e.ID))
		if now, err = c.store.ExecutionByID(t.Context(), e.ID); err != nil || now.Callback.Status != warpket.CallbackFailed || now.Callback.LastError != tt.want {
			t.Errorf("%s: given up as %+v, %v", name, now.Callback, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAScheduleRunsWhatItsAliasOrTheDraftIsWhenItFires(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	f, v := c.function()
	now := time.Now()
	publish := func(digest string) warpket.Version {
		next, err := c.store.Publish(t.Context(), warpket.Version{
			ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, CreatedDate: now,
			Snapshot: warpket.Snapshot{ID: warpket.NewID(now), RuntimeID: v.Snapshot.RuntimeID, Entry: "handler.handler", Digest: digest, CreatedDate: now},
		})
		c.must(err)
		return next
	}
	second := publish("y")
	draft, err := c.store.SetDraft(t.Context(), warpket.Snapshot{
		ID: warpket.NewID(now), ProjectID: c.project, FunctionID: f.ID, RuntimeID: v.Snapshot.RuntimeID, Entry: "handler.handler", Digest: "z", CreatedDate: now,
	}, now, func(warpket.Draft) error { return nil })
	c.must(err)
	c.must(c.store.CreateAlias(t.Context(), warpket.Alias{
		ID: warpket.NewID(now), ProjectID: c.project, Name: "prod", FunctionID: f.ID, CreatedDate: now,
		Routes: []warpket.Route{{Version: 1, Weight: 30}, {Version: 2, Weight: 70}, {Version: warpket.DraftNumber, Weight: 1}},
	}))
	tests := map[string]struct {
		schedule warpket.Schedule
		random   int
		version  int
		snapshot warpket.ID
	}{
		"the newest":            {warpket.Schedule{}, 0, 2, second.Snapshot.ID},
		"a version":             {warpket.Schedule{Version: 1}, 0, 1, v.Snapshot.ID},
		"the draft":             {warpket.Schedule{Draft: true}, 0, 0, draft.Snapshot.ID},
		"an alias":              {warpket.Schedule{Alias: "prod"}, 29, 1, v.Snapshot.ID},
		"an alias, differently": {warpket.Schedule{Alias: "prod"}, 30, 2, second.Snapshot.ID},
		"an alias of a draft":   {warpket.Schedule{Alias: "prod"}, 100, 0, draft.Snapshot.ID},
	}
	for name, tt := range tests {
		a := New(Config{Store: c.store, Catalog: cpuOnly{}, Random: func(int) int { return tt.random }, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		s := c.schedule(f, func(s *warpket.Schedule) {
			s.Pattern, s.Version, s.Draft, s.Alias = "* * * * *", tt.schedule.Version, tt.schedule.Draft, tt.schedule.Alias
		})
		e, err := a.scheduled(t.Context(), s, now)
		c.must(err)
		if e.VersionNumber != tt.version || e.SnapshotID != tt.snapshot || e.Alias != tt.schedule.Alias || e.Origin != (warpket.Origin{Kind: warpket.FromSchedule, ID: s.ID}) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// only is a catalog of one template.
type only warpket.Template

func (t only) Template(string) (warpket.Template, error) { return warpket.Template(t), nil }

func TestAScheduleDecidesWhereItRunsAsACallerOfTheAPIHasIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	f, _ := c.function()
	now := time.Now()
	simulated := warpket.Statevector.SlotMemory(28)
	anywhere := []warpket.Target{warpket.CPU, warpket.GPU}
	tests := map[string]struct {
		template warpket.Template
		settings warpket.Resources
		target   warpket.Target
		change   func(*warpket.Resources) // what it gets that its function does not ask for
	}{
		"a GPU's template takes a GPU whose driver it supports": {
			warpket.Template{Targets: []warpket.Target{warpket.GPU}, CUDA: "12.4"},
			warpket.Resources{},
			warpket.GPU,
			func(r *warpket.Resources) { r.GPUs, r.CUDA = 1, "12.4" },
		},
		"a compiler's version asks for its driver": {
			warpket.Template{Targets: []warpket.Target{warpket.GPU, warpket.Compile}, Compiler: warpket.NVCC},
			warpket.Resources{},
			warpket.GPU,
			func(r *warpket.Resources) { r.GPUs, r.CUDA = 1, "1.0.0" },
		},
		"who asks for a GPU runs on one": {
			warpket.Template{Targets: anywhere}, warpket.Resources{GPUs: 1}, warpket.GPU, func(*warpket.Resources) {},
		},
		"what a target does not have is left out": {
			warpket.Template{Targets: []warpket.Target{warpket.Sim}}, warpket.Resources{GPUs: 2}, warpket.Sim, func(r *warpket.Resources) { r.GPUs = 0 },
		},
		"qubits decide the memory": {
			warpket.Template{Targets: []warpket.Target{warpket.Simulator}},
			warpket.Resources{Qubits: 28},
			warpket.Simulator,
			func(r *warpket.Resources) { r.Method, r.Memory = warpket.Statevector, simulated },
		},
	}
	for name, tt := range tests {
		settings := f.Settings
		settings.Resources = tt.settings.Or(warpket.DefaultResources)
		_, err := c.store.UpdateFunction(t.Context(), c.project, f.ID, now, func(f *warpket.Function) error { f.Settings = settings; return nil })
		c.must(err)
		a := New(Config{Store: c.store, Catalog: only(tt.template), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		e, err := a.scheduled(t.Context(), c.schedule(f, func(s *warpket.Schedule) { s.Pattern = "* * * * *" }), now)
		c.must(err)
		want := settings.Resources
		tt.change(&want)
		if diff := cmp.Diff(want, e.Resources); diff != "" || e.Target != tt.target {
			t.Errorf("%s: it runs on %s %s", name, e.Target, diff)
		}
	}
}

func TestATimeForWhichTheQuotaHasNoRoomIsToldAndDoesNotComeAgain(t *testing.T) {
	t.Parallel()
	for _, limit := range []warpket.Limit{warpket.ExecutionLimit, warpket.WaitingLimit, warpket.CPULimit} {
		t.Run(string(limit), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.limit(limit, 0)
			f, _ := c.function()
			a := New(Config{Store: c.store, Catalog: cpuOnly{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			s := c.schedule(f, func(s *warpket.Schedule) { s.Pattern = "* * * * *" })
			c.exec(`update schedules set next_time = now() where id = $1`, s.ID)
			c.must(a.Fire(t.Context(), FireInput{s.ID, time.Now().Add(time.Second)}))
			s, err := c.store.Schedule(t.Context(), c.project, s.ID)
			c.must(err)
			if !strings.Contains(s.LastError, "ask an operator for more") || s.LastExecutionID != "" || s.Status != warpket.ScheduleRunning || !s.NextTime.After(time.Now()) {
				t.Errorf("it is %+v", s)
			}
			all, _, err := c.store.Executions(t.Context(), c.project, postgres.ExecutionFilter{}, postgres.Page{Limit: 10})
			if len(all) != 0 || err != nil {
				t.Errorf("it executed %v (%v)", all, err)
			}
		})
	}
}
