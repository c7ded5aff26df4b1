// Package imagetest makes images and registries for tests.
package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Platform is that of this machine.
const Platform = "linux/" + runtime.GOARCH

var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "warpket-guest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "guest"), "github.com/warpket/warpket/runners/image/imagetest/testdata/guest")
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "guest"))
})

// Guest is a program that needs nothing else, see testdata/guest. It is built
// once.
func Guest(t testing.TB) []byte {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Image is an image that has nothing but the guest, which it runs with
// arguments.
func Image(t testing.TB, arguments ...string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	program := Guest(t)
	if err := w.WriteHeader(&tar.Header{Name: "bin/guest", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := v1.Config{Entrypoint: []string{"guest"}, Cmd: arguments, User: "root"}
	i, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: runtime.GOOS, Architecture: runtime.GOARCH, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	if i, err = mutate.AppendLayers(i, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)); err != nil {
		t.Fatal(err)
	}
	return i
}

// Registry is one on the loopback, in memory.
type Registry struct {
	Host string // with its port
	auth authn.Authenticator
}

// New serves a registry. It asks for a user and a password unless they are
// empty, and repeats in its refusals what it was told.
func New(t testing.TB, user, password string) *Registry {
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
	r := &Registry{Host: strings.TrimPrefix(web.URL, "http://"), auth: authn.Anonymous}
	if user != "" {
		r.auth = &authn.Basic{Username: user, Password: password}
	}
	return r
}

// Push puts an image into the registry, and gives its reference with its digest.
func (r *Registry) Push(t testing.TB, repository string, i v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(r.Host + "/" + repository)
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
