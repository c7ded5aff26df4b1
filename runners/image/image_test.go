package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
)

func TestAnImageIsPulledAndUnpackedAsItsLayersSay(t *testing.T) {
	t.Parallel()
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	first := layer(t, []entry{
		{name: "./", kind: tar.TypeDir, mode: 0o700},
		{name: "./usr/", kind: tar.TypeDir, mode: 0o500},
		{name: "./usr/bin/tool", content: "#!/bin/sh", mode: 0o4711, time: old},
		{name: "./usr/bin/again", kind: tar.TypeLink, link: "/usr/bin/tool"},
		{name: "./bin", kind: tar.TypeSymlink, link: "/usr/bin"},
		{name: "./etc/secret", content: "owner only", mode: 0o600},
		{name: "./etc/gone", content: "x"},
		{name: "./etc/replaced/by", content: "a file"},
		{name: "./opt/lower/a", content: "x"},
		{name: "./opt/lower/deep/b", content: "x"},
		{name: "./dev/null", kind: tar.TypeChar},
		{name: "./run/pipe", kind: tar.TypeFifo},
	})
	second := layer(t, []entry{
		{name: "opt/lower/c", content: "new"}, // before the mark that spares it
		{name: "opt/lower/deep/d", content: "new"},
		{name: "opt/lower/.wh..wh..opq"},
		{name: "etc/.wh.gone"},
		{name: "etc/.wh.never"},
		{name: "etc/kept", content: "new"},
		{name: "etc/.wh.kept"}, // only what was there before
		{name: "etc/replaced", content: "now a file"},
		{name: "bin/other", content: "through a link"},
		{name: "a/b/c", content: "folders that nobody made"},
	})
	want := map[string]string{
		"usr/bin/tool": "-rwxr-xr-x #!/bin/sh", "usr/bin/again": "-rwxr-xr-x #!/bin/sh", "usr/bin/other": "-rw-r--r-- through a link",
		"bin":        "link /usr/bin",
		"etc/secret": "-rw-r--r-- owner only", "etc/kept": "-rw-r--r-- new", "etc/replaced": "-rw-r--r-- now a file",
		"opt/lower/c": "-rw-r--r-- new", "opt/lower/deep/d": "-rw-r--r-- new",
		"a/b/c": "-rw-r--r-- folders that nobody made",
	}
	for name, pack := range map[string]func(*testing.T, []byte) v1.Layer{"gzip": packGzip, "zstd": packZstd, "unpacked": packNot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t)
			ref := server.push(t, "fn:v1", build(t, pack(t, first), pack(t, second)))
			store := open(t, image.Config{})
			digest, err := store.Resolve(t.Context(), ref, image.Auth{})
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			got, err := store.Pull(t.Context(), image.Request{Ref: digest}, func(line string) { told = append(told, line) })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(got.Release)
			if diff := cmp.Diff(want, files(t, got.Root)); diff != "" {
				t.Error(diff)
			}
			if info, err := os.Stat(filepath.Join(got.Root, "usr/bin/tool")); err != nil || !info.ModTime().Equal(old) {
				t.Errorf("time %v, %v", info.ModTime(), err)
			}
			config := image.Image{
				Digest: digest[strings.Index(digest, "@")+1:], Entrypoint: []string{"/usr/bin/tool"}, Cmd: []string{"-x"},
				Env: []string{"A=1"}, WorkingDir: "/work", Root: got.Root, Size: got.Size,
			}
			if diff := cmp.Diff(config, *got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "lock" }, cmp.Ignore())); diff != "" {
				t.Error(diff)
			}
			if text := strings.Join(told, "\n"); !strings.Contains(text, "pulling layer 2 of 2: 0 of 1 MB") || !strings.Contains(text, "unpacked 3") {
				t.Errorf("told %s", text)
			}
		})
	}
}

func TestAHostileImageIsRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	outside := t.TempDir() // what the images reach for
	up := strings.Repeat("../", 40) + strings.TrimPrefix(outside, "/")
	deep := strings.Repeat("d/", 2040)
	many := func(n int, make func(i int) entry) []entry {
		entries := []entry{}
		for i := range n {
			entries = append(entries, make(i))
		}
		return entries
	}
	tests := map[string]struct {
		layers [][]entry
		want   warpket.Kind // "" means that it can be unpacked
		text   string
		files  map[string]string
	}{
		"a name that leads out":            {layers: [][]entry{{{name: up + "/evil", content: "x"}}}, want: warpket.Invalid, text: "which is outside of it"},
		"a name that leads out, hidden":    {layers: [][]entry{{{name: "a/../../" + up + "/evil", content: "x"}}}, want: warpket.Invalid, text: "which is outside of it"},
		"a whiteout that leads out":        {layers: [][]entry{{{name: up + "/.wh.victim"}}}, want: warpket.Invalid, text: "which is outside of it"},
		"a whiteout of the parent":         {layers: [][]entry{{{name: "a", content: "x"}, {name: ".wh..."}}}, files: map[string]string{"a": "-rw-r--r-- x"}},
		"an absolute name":                 {layers: [][]entry{{{name: outside + "/evil", content: "x"}}}, files: map[string]string{outside[1:] + "/evil": "-rw-r--r-- x"}},
		"through an absolute link":         {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/evil", content: "x"}}}, files: map[string]string{"l": "link " + outside, outside[1:] + "/evil": "-rw-r--r-- x"}},
		"through a relative link":          {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: up}}, {{name: "l/evil", content: "x"}}}, files: map[string]string{"l": "link " + up, outside[1:] + "/evil": "-rw-r--r-- x"}},
		"through a link in a known folder": {layers: [][]entry{{{name: "d/a", content: "x"}, {name: "d", kind: tar.TypeSymlink, link: outside}, {name: "d/evil", content: "x"}}}, files: map[string]string{"d": "link " + outside, outside[1:] + "/evil": "-rw-r--r-- x"}},
		"over a link to a file":            {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: outside + "/victim"}, {name: "l", content: "x"}}}, files: map[string]string{"l": "-rw-r--r-- x"}},
		"a link in circles":                {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: "l"}, {name: "l/evil", content: "x"}}}, want: warpket.Invalid, text: "lead in a circle"},
		"a second name of what is outside": {layers: [][]entry{{{name: "h", kind: tar.TypeLink, link: up + "/victim"}}}, want: warpket.Invalid, text: "which is outside of it"},
		"a second name, absolute":          {layers: [][]entry{{{name: "h", kind: tar.TypeLink, link: outside + "/victim"}}}, want: warpket.Invalid, text: "which it lacks"},
		"a second name, through a link":    {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "h", kind: tar.TypeLink, link: "l/victim"}}}, want: warpket.Invalid, text: "which it lacks"},
		"a second name of a link":          {layers: [][]entry{{{name: "l", kind: tar.TypeSymlink, link: outside + "/victim"}, {name: "h", kind: tar.TypeLink, link: "l"}, {name: "h", content: "x"}}}, files: map[string]string{"l": "link " + outside + "/victim", "h": "-rw-r--r-- x"}},
		"a second name of itself":          {layers: [][]entry{{{name: "a", content: "x"}, {name: "a", kind: tar.TypeLink, link: "./a"}}}, files: map[string]string{"a": "-rw-r--r-- x"}},
		"a second name of a folder":        {layers: [][]entry{{{name: "a/b", content: "x"}, {name: "h", kind: tar.TypeLink, link: "a"}}}, want: warpket.Invalid, text: "which is no file of it"},
		"a file as a folder":               {layers: [][]entry{{{name: "a", content: "x"}, {name: "a/b", content: "x"}}}, want: warpket.Invalid, text: "where it also has a folder"},
		"a name that is too long":          {layers: [][]entry{{{name: strings.Repeat("x", 300), content: "x"}}}, want: warpket.Invalid, text: "file name too long"},
		"a path that is too long":          {layers: [][]entry{{{name: strings.Repeat("x/", 3000) + "x", content: "x"}}}, want: warpket.Invalid, text: "outside of it"},
		"a root that is a file":            {layers: [][]entry{{{name: "/."}, {name: ".", kind: tar.TypeSymlink, link: outside}}}, files: map[string]string{}},
		"too many bytes":                   {layers: [][]entry{{{name: "a", content: strings.Repeat("x", 600_000)}}, {{name: "b", content: strings.Repeat("x", 600_000)}}}, want: warpket.TooLarge, text: "more than the 1 MB"},
		"too many files":                   {layers: [][]entry{many(150, func(i int) entry { return entry{name: fmt.Sprint(i)} })}, want: warpket.TooLarge, text: "more than the 100 files"},
		"too many whiteouts":               {layers: [][]entry{many(150, func(i int) entry { return entry{name: fmt.Sprintf(".wh.%d", i)} })}, want: warpket.TooLarge, text: "more than the 100 files"},
		"too many folders":                 {layers: [][]entry{{{name: deep + "a"}}}, want: warpket.TooLarge, text: "more than the 100 files"},
		"too much between the files":       {layers: [][]entry{{{name: "p", kind: tar.TypeFifo, size: 5 << 20}, {name: "q", kind: 'Z', content: strings.Repeat("x", 5<<20)}}}, want: warpket.TooLarge, text: "more than the 1 MB"},
	}
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // once all have run
		if diff := cmp.Diff(map[string]string{"victim": "-rw------- as it was"}, files(t, outside)); diff != "" {
			t.Error(diff)
		}
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var layers []v1.Layer
			for _, l := range test.layers {
				layers = append(layers, packGzip(t, layer(t, l)))
			}
			server := serve(t)
			dir := t.TempDir()
			store := open(t, image.Config{Dir: dir, Limits: image.Limits{Bytes: 1_000_000, Files: 100}})
			got, err := store.Pull(t.Context(), image.Request{Ref: server.push(t, "evil", build(t, layers...))}, nil)
			if test.want != "" {
				if warpket.KindOf(err) != test.want || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v", err)
				}
				if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
					t.Errorf("%v stays behind, %v", left, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Release()
			if diff := cmp.Diff(test.files, files(t, got.Root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALayerThatIsNotWhatTheManifestSaysIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	whole := layer(t, []entry{{name: "a", content: "x"}})
	tests := map[string]func(served []byte) []byte{
		"cut off":                         func(b []byte) []byte { return b[:len(b)/2] },
		"followed by something":           func(b []byte) []byte { return append(bytes.Clone(b), "more"...) },
		"another one":                     func([]byte) []byte { return zip(t, layer(t, []entry{{name: "b", content: "x"}})) },
		"the end of the archive too soon": func([]byte) []byte { return zip(t, make([]byte, 1024)) },
		"nothing":                         func([]byte) []byte { return nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t)
			packed := packGzip(t, whole)
			ref := server.push(t, "broken", build(t, packed))
			digest, err := packed.Digest()
			if err != nil {
				t.Fatal(err)
			}
			server.change(digest, change)
			if got, err := open(t, image.Config{}).Pull(t.Context(), image.Request{Ref: ref}, nil); warpket.KindOf(err) != warpket.Unavailable {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestAReferenceIsResolvedForTheNodesPlatform(t *testing.T) {
	t.Parallel()
	server := serve(t)
	arm := build(t, packGzip(t, layer(t, []entry{{name: "arm", content: "x"}})))
	config, err := arm.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = "arm64"
	if arm, err = mutate.ConfigFile(arm, config); err != nil {
		t.Fatal(err)
	}
	amd := build(t, packGzip(t, layer(t, []entry{{name: "amd", content: "x"}})))
	both := mutate.AppendManifests(
		empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	)
	index := server.pushIndex(t, "both", both)
	tests := map[string]struct {
		ref, platform string
		want          v1.Image
		kind          warpket.Kind
		text          string
	}{
		"one of several":       {ref: index, platform: "linux/amd64", want: amd},
		"one with a variant":   {ref: index, platform: "linux/arm64", want: arm},
		"none of several":      {ref: index, platform: "linux/riscv64", kind: warpket.Invalid, text: `has no image for linux/riscv64; it has some for: "linux/amd64", "linux/arm64/v8"`},
		"the only one":         {ref: server.push(t, "amd:1", amd), platform: "linux/amd64", want: amd},
		"the only one, other":  {ref: server.push(t, "arm:1", arm), platform: "linux/amd64", kind: warpket.Invalid, text: `is for "linux/arm64", and this node is linux/amd64`},
		"an unknown tag":       {ref: server.host + "/amd:2", platform: "linux/amd64", kind: warpket.NotFound, text: "has no"},
		"what is no reference": {ref: "A B", platform: "linux/amd64", kind: warpket.Invalid, text: "is not the reference of an image"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t, image.Config{Platform: test.platform})
			got, err := store.Resolve(t.Context(), test.ref, image.Auth{})
			if test.kind != "" {
				if warpket.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v", err)
				}
				return
			}
			want, digestErr := test.want.Digest()
			if err != nil || digestErr != nil || !strings.HasSuffix(got, "@"+want.String()) {
				t.Errorf("%s, %v, %v", got, err, digestErr)
			}
			again, err := store.Resolve(t.Context(), got, image.Auth{})
			if err != nil || again != got {
				t.Errorf("%s, %v", again, err)
			}
		})
	}
	t.Run("a reference without digest is not pulled", func(t *testing.T) {
		t.Parallel()
		if _, err := open(t, image.Config{}).Pull(t.Context(), image.Request{Ref: server.host + "/amd:1"}, nil); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("error %v", err)
		}
	})
	t.Run("nor is one of several platforms", func(t *testing.T) {
		t.Parallel()
		digest, err := both.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, image.Config{}).Pull(t.Context(), image.Request{Ref: server.host + "/both@" + digest.String()}, nil); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("error %v", err)
		}
	})
}

func TestRegistriesOnTheNodesNetworksAreRefused(t *testing.T) {
	t.Parallel()
	server := serve(t)
	ref := server.push(t, "fn:v1", build(t))
	port := server.host[strings.LastIndex(server.host, ":"):]
	for _, host := range []string{server.host, "localhost" + port, "127.1" + port, "[::1]" + port, "10.0.0.1" + port, "169.254.169.254"} {
		store := open(t, image.Config{Guard: egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}})
		if _, err := store.Resolve(t.Context(), strings.Replace(ref, server.host, host, 1), image.Auth{}); warpket.KindOf(err) != warpket.Denied && warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%s: error %v", host, err)
		}
	}
}

func TestARedirectOfARegistryIsChecked(t *testing.T) {
	t.Parallel()
	// The operator allows one address of loopback; another one stands for what nobody may reach.
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	_ = other.Listener.Close()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	other.Listener = l
	other.Start()
	t.Cleanup(other.Close)
	server := serve(t)
	ref := server.push(t, "fn", build(t, packGzip(t, layer(t, []entry{{name: "a"}}))))
	server.redirect = other.URL
	store := open(t, image.Config{Guard: egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}})
	if _, err := store.Pull(t.Context(), image.Request{Ref: ref}, nil); err == nil {
		t.Error("it was pulled")
	}
}

func TestAPrivateImageIsForThoseWhoMayReadIt(t *testing.T) {
	t.Parallel()
	server := serve(t)
	server.user, server.password = "ada", "correct horse"
	ref := server.push(t, "private/fn", build(t, packGzip(t, layer(t, []entry{{name: "a", content: "x"}}))))
	store := open(t, image.Config{})
	pull := func(project string, auth image.Auth) error {
		got, err := store.Pull(t.Context(), image.Request{Ref: ref, Project: project, Auth: auth}, nil)
		if err == nil {
			got.Release()
		}
		return err
	}
	good := image.Auth{User: "ada", Password: "correct horse"}
	refused := func(auth image.Auth) {
		t.Helper()
		err := pull("theirs", auth)
		if warpket.KindOf(err) != warpket.Denied || !strings.Contains(err.Error(), "give it a user and password") || strings.Contains(err.Error(), "horse") {
			t.Errorf("error %v", err)
		}
	}
	refused(image.Auth{})
	refused(image.Auth{User: "ada", Password: "wrong horse"})
	refused(image.Auth{Token: "horse"})
	if err := pull("ours", good); err != nil {
		t.Fatal(err)
	}
	refused(image.Auth{}) // though it is here now
	if err := pull("theirs", good); err != nil {
		t.Fatal(err)
	}
	asked := server.asked.Load()
	for _, project := range []string{"ours", "theirs"} {
		if err := pull(project, image.Auth{}); err != nil || server.asked.Load() != asked {
			t.Errorf("%s: %v, the registry was asked %d more times", project, err, server.asked.Load()-asked)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	auth := image.Auth{User: "ada", Password: "horse", Token: "horse"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "auth", auth, "request", image.Request{Auth: auth})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "auth", auth, "request", image.Request{Auth: auth})
	text, err := json.Marshal(image.Request{Auth: auth})
	if printed := fmt.Sprintf("%v %+v %#v %s %s", auth, image.Request{Auth: auth}, image.Request{Auth: auth}, text, &log); err != nil || strings.Contains(printed, "horse") {
		t.Errorf("%s, %v", printed, err)
	}

	// A registry that repeats what it was told.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		user, password, _ := r.BasicAuth()
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		_, _ = fmt.Fprintf(w, `{"schemaVersion": "%s %s %s"`, user, password, r.Header.Get("Authorization"))
	}))
	t.Cleanup(server.Close)
	_, err = open(t, image.Config{}).Resolve(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/a:b", image.Auth{User: "ada", Password: "horse"})
	if err == nil || strings.Contains(err.Error(), "horse") || strings.Contains(err.Error(), "YWRhOmhvcnNl") {
		t.Errorf("error %v", err)
	}
}

func TestAnImageIsPulledOnceForAllWhoAsk(t *testing.T) {
	t.Parallel()
	server := serve(t)
	packed := packGzip(t, layer(t, []entry{{name: "a", content: "x"}}))
	ref := server.push(t, "fn", build(t, packed))
	dir := t.TempDir()
	stores := []*image.Store{open(t, image.Config{Dir: dir}), open(t, image.Config{Dir: dir})} // of two agents
	before := server.blobs.Load()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			got, err := stores[i%2].Pull(t.Context(), image.Request{Ref: ref}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer got.Release()
			if diff := cmp.Diff(map[string]string{"a": "-rw-r--r-- x"}, files(t, got.Root)); diff != "" {
				t.Error(diff)
			}
		})
	}
	all.Wait()
	if n := server.blobs.Load() - before; n != 2 { // its configuration and its layer
		t.Errorf("%d blobs were pulled", n)
	}
}

func TestWhoWaitsForAPullMayLeave(t *testing.T) {
	t.Parallel()
	server := serve(t)
	packed := packGzip(t, layer(t, []entry{{name: "a", content: "x"}}))
	ref := server.push(t, "fn", build(t, packed))
	digest, err := packed.Digest()
	if err != nil {
		t.Fatal(err)
	}
	started, goOn := make(chan struct{}), make(chan struct{})
	server.change(digest, func(b []byte) []byte {
		close(started)
		<-goOn
		return b
	})
	store := open(t, image.Config{})
	first := make(chan error, 1)
	go func() {
		got, err := store.Pull(t.Context(), image.Request{Ref: ref}, nil)
		if err == nil {
			got.Release()
		}
		first <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	_, err = store.Pull(ctx, image.Request{Ref: ref}, func(line string) {
		if line != "waiting for another pull of this image" {
			t.Errorf("told %q", line)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestImagesThatNobodyHasUsedForLongestMakeRoom(t *testing.T) {
	t.Parallel()
	server := serve(t)
	dir := t.TempDir()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	config := image.Config{Dir: dir, Limits: image.Limits{Store: 2500}, Clock: func() time.Time { now = now.Add(time.Second); return now }}
	store := open(t, config)
	var refs []string
	for i := range 4 {
		content := strings.Repeat(fmt.Sprint(i), 1000)
		refs = append(refs, server.push(t, fmt.Sprintf("fn%d", i), build(t, packGzip(t, layer(t, []entry{{name: "a", content: content}})))))
	}
	pull := func(i int) *image.Image {
		got, err := store.Pull(t.Context(), image.Request{Ref: refs[i]}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	there := func(i *image.Image) bool {
		_, err := os.Stat(i.Root)
		return err == nil
	}
	zero, one := pull(0), pull(1)
	one.Release()
	two := pull(2) // zero is older than one, but in use
	two.Release()
	if !there(zero) || there(one) || !there(two) {
		t.Errorf("there: %v %v %v", there(zero), there(one), there(two))
	}
	zero.Release()
	pull(0).Release() // used again
	three := pull(3)
	three.Release()
	if !there(zero) || there(two) || !there(three) {
		t.Errorf("there: %v %v %v", there(zero), there(two), there(three))
	}
}

func TestWhatAKilledAgentLeftIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := filepath.Join(dir, "tmp", strings.Repeat("a", 64), "rootfs", "file")
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, image.Config{Dir: dir})
	if entries, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// server is a registry that can be told to misbehave.
type server struct {
	host           string
	user, password string
	redirect       string       // where blobs are said to be
	asked, blobs   atomic.Int64 // requests; those for blobs
	mu             sync.Mutex
	changed        map[string]func([]byte) []byte
	pushing        atomic.Bool
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{changed: map[string]func([]byte) []byte{}}
	memory := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.pushing.Load() {
			memory.ServeHTTP(w, r)
			return
		}
		s.asked.Add(1)
		if user, password, _ := r.BasicAuth(); user != s.user || password != s.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "told: "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			return
		}
		_, digest, blob := strings.Cut(r.URL.Path, "/blobs/")
		if !blob {
			memory.ServeHTTP(w, r)
			return
		}
		s.blobs.Add(1)
		if s.redirect != "" {
			http.Redirect(w, r, s.redirect, http.StatusFound)
			return
		}
		s.mu.Lock()
		change := s.changed[digest]
		s.mu.Unlock()
		if change == nil {
			memory.ServeHTTP(w, r)
			return
		}
		recorded := httptest.NewRecorder()
		memory.ServeHTTP(recorded, r)
		_, _ = w.Write(change(recorded.Body.Bytes()))
	}))
	t.Cleanup(web.Close)
	s.host = strings.TrimPrefix(web.URL, "http://")
	return s
}

func (s *server) change(digest v1.Hash, change func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed[digest.String()] = change
}

// push puts an image into the registry and returns its reference, with its
// digest unless it has a tag.
func (s *server) push(t *testing.T, repository string, i v1.Image) string {
	t.Helper()
	s.pushing.Store(true)
	defer s.pushing.Store(false)
	ref, err := name.ParseReference(s.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, i, remote.WithAuth(authn.Anonymous)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(repository, ":") {
		return ref.Name()
	}
	digest, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).Name()
}

func (s *server) pushIndex(t *testing.T, repository string, index v1.ImageIndex) string {
	t.Helper()
	s.pushing.Store(true)
	defer s.pushing.Store(false)
	ref, err := name.ParseReference(s.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

func open(t *testing.T, config image.Config) *image.Store {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	if config.Platform == "" {
		config.Platform = "linux/amd64"
	}
	if config.Guard.Allow == nil {
		config.Guard.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	store, err := image.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func build(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	i, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{
		Entrypoint: []string{"/usr/bin/tool"}, Cmd: []string{"-x"}, Env: []string{"A=1"}, WorkingDir: "/work", User: "1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if i, err = mutate.AppendLayers(i, layers...); err != nil {
		t.Fatal(err)
	}
	return i
}

type entry struct {
	name, content, link string
	kind                byte
	mode                int64
	size                int64 // said of what has no content
	time                time.Time
}

func layer(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		kind := e.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		mode := e.mode
		if mode == 0 {
			mode = 0o644
		}
		header := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: kind, Mode: mode, Size: int64(len(e.content)), ModTime: e.time, Uid: 12345}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(t *testing.T, b []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func packGzip(t *testing.T, b []byte) v1.Layer {
	t.Helper()
	return static.NewLayer(zip(t, b), types.OCILayer)
}

func packZstd(t *testing.T, b []byte) v1.Layer {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(w.EncodeAll(b, nil), types.OCILayerZStd)
}

func packNot(t *testing.T, b []byte) v1.Layer {
	t.Helper()
	return static.NewLayer(b, types.OCIUncompressedLayer)
}

// files lists the files below a folder with their modes and contents.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if info.Mode().Perm() != 0o755 && path != root {
				t.Errorf("%s has mode %s", name, info.Mode())
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			found[name] = "link " + target
			return err
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			found[name] = info.Mode().String() + " " + string(content)
			return err
		default:
			found[name] = info.Mode().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
