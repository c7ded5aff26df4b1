package node

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/runners/image/imagetest"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

const platform = imagetest.Platform

var loopback = egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// agentWith makes an agent in a sandbox of its own that may pull by a guard.
func agentWith(t *testing.T, guard egress.Guard) *Agent {
	t.Helper()
	launcher, err := sandbox.NewNamespaces(t.Context(), "node-"+string(warpket.NewID(time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.New(image.Config{Dir: t.TempDir(), Platform: platform, Guard: guard, Limits: image.Limits{Store: 1}})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	a := New(Config{Dir: t.TempDir(), Launcher: launcher, Images: store, Log: quiet})
	a.pool = worker.NewPool(launcher, "", 0, quiet)
	t.Cleanup(func() {
		a.pool.Close()
		if err := launcher.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// prepared is a slot with an image, ready to run.
func prepared(t *testing.T, a *Agent, pinned string, more func(*wire.Prepare)) (s *slot, told []string, err error) {
	t.Helper()
	in := &wire.Prepare{
		Slot: "s", Generation: 1, Project: "p", Memory: 256 << 20, Cpu: 1000, Image: &wire.Image{Reference: pinned}, Runtime: &wire.Runtime{Sdk: warpket.ImageRuntime(platform).SDK, Platform: platform},
	}
	if more != nil {
		more(in)
	}
	snapshot := warpket.Snapshot{Entry: in.GetEntry(), Image: &warpket.Image{Pinned: in.GetImage().GetReference(), Command: in.GetImage().GetCommand()}}
	for _, f := range in.GetFiles() {
		snapshot.Files = append(snapshot.Files, warpket.File{Path: f.GetPath(), SHA256: f.GetSha256(), Size: f.GetSize()})
	}
	in.Digest = snapshot.DigestFor(warpket.ImageRuntime(platform))
	s = a.newSlot(t.Context(), "s", in)
	if err = s.get(t.Context(), func(line string) { told = append(told, line) }); err != nil {
		return s, told, err
	}
	if err = s.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.clear)
	return s, told, nil
}

func TestAnImageIsPulledAndItsProgramRun(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "", "")
	pinned := r.Push(t, "bell:1", imagetest.Image(t, "echo"))
	s, told, err := prepared(t, agentWith(t, loopback), pinned, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(told, "\n"); !strings.Contains(text, "pulling layer 1 of 1") || !strings.Contains(text, "unpacked 2 files") {
		t.Errorf("told %s", text)
	}
	var printed bytes.Buffer
	got := s.worker.Run(t.Context(), worker.Call{ExecutionID: "e", Input: []byte(`{"a":1}`)}, &printed)
	if got.Status != warpket.Succeeded || string(got.Result) != `{"a":1}` || !strings.Contains(printed.String(), "to the log, too") {
		t.Errorf("outcome %+v, log %s", got, &printed)
	}

	s, _, err = prepared(t, s.agent, pinned, func(in *wire.Prepare) {
		in.Image.Command = []string{"guest", "print", `"by another command"`}
		in.Environment = map[string]string{"TOKEN": "x"}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != `"by another command"` {
		t.Errorf("outcome %+v", got)
	}
}

func TestTheFilesOfAFunctionRunInAnImage(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "", "")
	pinned := r.Push(t, "read:1", imagetest.Image(t, "read", "handler.py"))
	const content = "print(1)"
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }))
	t.Cleanup(files.Close)
	a := agentWith(t, loopback)
	with := func(in *wire.Prepare) {
		in.Entry = "any thing"
		in.Files = []*wire.File{{Path: "handler.py", Sha256: warpket.SHA256([]byte(content)), Size: int64(len(content)), Url: files.URL}}
	}
	s, told, err := prepared(t, a, pinned, with)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(told, "\n"); !strings.Contains(text, "unpacked 2 files") || !strings.Contains(text, "fetching files") {
		t.Errorf("told %s", text)
	}
	if got := s.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != `"print(1)"` {
		t.Errorf("outcome %+v", got)
	}
	s.in.Entry = "another"
	if err := s.get(t.Context(), func(string) {}); warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("what its digest does not stand for: %v", err)
	}
}

func TestAnImageIsPulledAheadOfNeed(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "user", "canary-4711")
	pinned := r.Push(t, "bell:1", imagetest.Image(t, "print", "1"))
	a := agentWith(t, loopback)
	in := func() *wire.Install {
		return &wire.Install{
			Runtime: &wire.Runtime{Sdk: warpket.ImageRuntime(platform).SDK, Platform: platform, Project: "p"},
			Image:   &wire.Image{Reference: pinned, Auth: &wire.RegistryAuth{User: "user", Password: "canary-4711"}},
		}
	}
	for range 2 {
		if err := a.installOrPull(t.Context(), in(), func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	s, told, err := prepared(t, a, pinned, nil) // the same project, which need not ask the registry
	if err != nil || strings.Contains(strings.Join(told, ""), "layer") {
		t.Fatalf("told %q (%v)", told, err)
	}
	if got := s.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != "1" {
		t.Errorf("outcome %+v", got)
	}
	wrong := in()
	wrong.Runtime.Project, wrong.Image.Auth.Password = "other", "canary-1174"
	if err := a.installOrPull(t.Context(), wrong, func(string) {}); warpket.KindOf(err) != warpket.Invalid || strings.Contains(err.Error(), "canary") {
		t.Errorf("another project gets it: %v", err)
	}
}

func TestAMovedTagStillRunsWhatItStoodFor(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "", "")
	r.Push(t, "bell:1", imagetest.Image(t, "print", "1"))
	registries, err := image.NewRegistries(image.Config{Platform: platform, Guard: loopback})
	if err != nil {
		t.Fatal(err)
	}
	first, err := registries.Resolve(t.Context(), r.Host+"/bell:1", image.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	second := r.Push(t, "bell:1", imagetest.Image(t, "print", "2"))
	a := agentWith(t, loopback) // with room for one image
	for pinned, want := range map[string]string{first: "1", second: "2"} {
		s, _, err := prepared(t, a, pinned, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != want {
			t.Errorf("%s: %+v, want %s", pinned, got, want)
		}
	}
}

func TestAnImageStaysWhileASlotHoldsIt(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "", "")
	a := agentWith(t, loopback) // with room for none
	held, _, err := prepared(t, a, r.Push(t, "held:1", imagetest.Image(t, "print", "1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := a.newSlot(t.Context(), "other", &wire.Prepare{Project: "p", Image: &wire.Image{Reference: r.Push(t, "other:1", imagetest.Image(t, "print", "2"))}})
	s.in.Digest = warpket.Image{Pinned: s.in.GetImage().GetReference()}.SnapshotDigest(keyOf(nil).String())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.get(ctx, func(string) {}); err != nil {
		t.Fatal(err)
	}
	root := s.image.Root
	s.clear()
	if _, _, err := prepared(t, a, r.Push(t, "third:1", imagetest.Image(t, "print", "3")), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("what nobody holds is still there: %v", err)
	}
	if got := held.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != "1" {
		t.Errorf("outcome %+v", got)
	}
}

func TestAPrivateRegistryGetsItsCredentialsAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "user", "canary-4711")
	pinned := r.Push(t, "bell:1", imagetest.Image(t, "print", "1"))
	a := agentWith(t, loopback)
	_, told, err := prepared(t, a, pinned, nil)
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "give it a user and password") || len(told) == 0 {
		t.Errorf("without credentials: %v, told %q", err, told)
	}
	wrong := func(in *wire.Prepare) { in.Image.Auth = &wire.RegistryAuth{User: "user", Password: "canary-1174"} }
	if _, told, err = prepared(t, a, pinned, wrong); err == nil || strings.Contains(err.Error()+strings.Join(told, ""), "canary") {
		t.Errorf("with wrong ones: %v, told %q", err, told)
	}
	s, told, err := prepared(t, a, pinned, func(in *wire.Prepare) { in.Image.Auth = &wire.RegistryAuth{User: "user", Password: "canary-4711"} })
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(told, "")+s.in.String(), "canary") {
		t.Errorf("told %q, kept %s", told, s.in)
	}
	if got := s.worker.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != "1" {
		t.Errorf("outcome %+v", got)
	}
}

func TestWhatANodeDoesNotPull(t *testing.T) {
	t.Parallel()
	r := imagetest.New(t, "", "")
	pinned := r.Push(t, "bell:1", imagetest.Image(t, "print", "1"))
	tests := map[string]struct {
		guard  egress.Guard
		change func(a *Agent, in *wire.Prepare)
		kind   warpket.Kind
		text   string
	}{
		"from a registry of its own networks": {kind: warpket.Invalid, text: "not a public address"},
		"an image that is gone": {guard: loopback, kind: warpket.Invalid, text: "has no", change: func(_ *Agent, in *wire.Prepare) {
			in.Image.Reference = r.Host + "/bell@sha256:" + strings.Repeat("0", 64)
		}},
		"a tag":                  {guard: loopback, kind: warpket.Invalid, text: "with its digest", change: func(_ *Agent, in *wire.Prepare) { in.Image.Reference = r.Host + "/bell:1" }},
		"without its namespaces": {guard: loopback, kind: warpket.Unavailable, text: "this node cannot run images", change: func(a *Agent, _ *wire.Prepare) { a.config.Images = nil }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agentWith(t, test.guard)
			_, _, err := prepared(t, a, pinned, func(in *wire.Prepare) {
				if test.change != nil {
					test.change(a, in)
				}
			})
			if warpket.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v, want %s ...%s...", err, test.kind, test.text)
			}
		})
	}
	s := agentWith(t, loopback).newSlot(t.Context(), "s", &wire.Prepare{Image: &wire.Image{Reference: pinned}, Digest: "another"})
	if err := s.get(t.Context(), func(string) {}); warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("what its digest does not stand for: %v", err)
	}
}
