package node

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

const platform = "linux/" + runtime.GOARCH

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
	i := warpket.Image{Pinned: in.GetImage().GetReference(), Command: in.GetImage().GetCommand()}
	in.Digest = i.SnapshotDigest(warpket.ImageRuntime(platform).String())
	s = a.newSlot(t.Context(), "s", in)
	if err = s.pull(t.Context(), func(line string) { told = append(told, line) }); err != nil {
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
	r := newRegistry(t, "", "")
	pinned := r.push(t, "bell:1", guestImage(t, "echo"))
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

func TestAMovedTagStillRunsWhatItStoodFor(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, "", "")
	r.push(t, "bell:1", guestImage(t, "print", "1"))
	registries, err := image.NewRegistries(image.Config{Platform: platform, Guard: loopback})
	if err != nil {
		t.Fatal(err)
	}
	first, err := registries.Resolve(t.Context(), r.host+"/bell:1", image.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	second := r.push(t, "bell:1", guestImage(t, "print", "2"))
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
	r := newRegistry(t, "", "")
	a := agentWith(t, loopback) // with room for none
	held, _, err := prepared(t, a, r.push(t, "held:1", guestImage(t, "print", "1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := a.newSlot(t.Context(), "other", &wire.Prepare{Project: "p", Image: &wire.Image{Reference: r.push(t, "other:1", guestImage(t, "print", "2"))}})
	s.in.Digest = warpket.Image{Pinned: s.in.GetImage().GetReference()}.SnapshotDigest(keyOf(nil).String())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.pull(ctx, func(string) {}); err != nil {
		t.Fatal(err)
	}
	root := s.image.Root
	s.clear()
	if _, _, err := prepared(t, a, r.push(t, "third:1", guestImage(t, "print", "3")), nil); err != nil {
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
	r := newRegistry(t, "user", "canary-4711")
	pinned := r.push(t, "bell:1", guestImage(t, "print", "1"))
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
	r := newRegistry(t, "", "")
	pinned := r.push(t, "bell:1", guestImage(t, "print", "1"))
	tests := map[string]struct {
		guard  egress.Guard
		change func(a *Agent, in *wire.Prepare)
		kind   warpket.Kind
		text   string
	}{
		"from a registry of its own networks": {kind: warpket.Invalid, text: "not a public address"},
		"an image that is gone": {guard: loopback, kind: warpket.Invalid, text: "has no", change: func(_ *Agent, in *wire.Prepare) {
			in.Image.Reference = r.host + "/bell@sha256:" + strings.Repeat("0", 64)
		}},
		"a tag":                  {guard: loopback, kind: warpket.Invalid, text: "with its digest", change: func(_ *Agent, in *wire.Prepare) { in.Image.Reference = r.host + "/bell:1" }},
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
	if err := s.pull(t.Context(), func(string) {}); warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("what its digest does not stand for: %v", err)
	}
}

// guest builds the program of images, once.
var guest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "warpket-guest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "guest"), "../runners/worker/testdata/guest") //nolint:noctx // ends with the test
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "guest"))
})

// guestImage is an image that has nothing but the guest.
func guestImage(t *testing.T, arguments ...string) v1.Image {
	t.Helper()
	program, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "bin/guest", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	i, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Entrypoint: []string{"guest"}, Cmd: arguments, User: "root"}})
	if err != nil {
		t.Fatal(err)
	}
	if i, err = mutate.AppendLayers(i, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)); err != nil {
		t.Fatal(err)
	}
	return i
}

// testRegistry is a registry on the loopback, which may ask for a password.
type testRegistry struct {
	host string
	auth authn.Authenticator
}

func newRegistry(t *testing.T, user, password string) *testRegistry {
	t.Helper()
	memory := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "told: "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			return
		}
		memory.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	r := &testRegistry{host: strings.TrimPrefix(web.URL, "http://"), auth: authn.Anonymous}
	if user != "" {
		r.auth = &authn.Basic{Username: user, Password: password}
	}
	return r
}

// push puts an image into the registry, and gives its reference with its digest.
func (r *testRegistry) push(t *testing.T, repository string, i v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(r.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, i, remote.WithAuth(r.auth)); err != nil {
		t.Fatal(err)
	}
	digest, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).Name()
}
