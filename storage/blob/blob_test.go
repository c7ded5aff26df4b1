package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/teststack"
)

const project = warpket.ID("01900000-0000-7000-8000-000000000001")

// TestStore is the conformance suite: each server that the product may run on
// passes it.
func TestStore(t *testing.T) {
	t.Parallel()
	servers := map[string]func(*testing.T) blob.Config{
		"versitygw": func(t *testing.T) blob.Config { return teststack.S3(t) },
		"minio":     startMinIO,
	}
	tests := map[string]func(*testing.T, *server){
		"what is put comes back":                         testRoundTrip,
		"projects do not share bytes":                    testProjects,
		"storing again and removing again are harmless":  testRepeats,
		"other bytes than the name says are an error":    testCorrupted,
		"what is missing is not found":                   testMissing,
		"a large object is passed on in pieces":          testOpen,
		"many may store the same bytes at once":          testConcurrentPuts,
		"a URL gives the bytes, for a while":             testGetURL,
		"a URL for one object does not open another":     testGetURLTampered,
		"an upload stores the bytes of its hash":         testPutURL,
		"an upload refuses other bytes":                  testPutURLOtherBytes,
		"an upload refuses other sizes":                  testPutURLOtherSizes,
		"an upload is for one name, one method, a while": testPutURLTampered,
		"the bucket may be there already":                testReady,
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, start(t))
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, s)
				})
			}
		})
	}
}

// server is a store, and the same bucket behind its back.
type server struct {
	*blob.Store
	config blob.Config
	raw    *minio.Client
}

func newServer(t *testing.T, c blob.Config) *server {
	t.Helper()
	store, err := blob.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := minio.New(strings.TrimPrefix(c.Endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: c.Region})
	if err != nil {
		t.Fatal(err)
	}
	return &server{store, c, raw}
}

// startMinIO starts the program that WARPKET_TEST_MINIO names, for this test.
func startMinIO(t *testing.T) blob.Config {
	t.Helper()
	program := os.Getenv("WARPKET_TEST_MINIO")
	if program == "" {
		if os.Getenv("CI") != "" {
			t.Fatal(`WARPKET_TEST_MINIO names no MinIO server; "make test" builds one`)
		}
		t.Skip(`WARPKET_TEST_MINIO names no MinIO server; "make test" builds one`)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()

	c := blob.Config{Endpoint: "http://" + address, AccessKey: "warpket", SecretKey: warpket.Secret(), Bucket: "warpket-test", Region: "us-east-1"}
	var log bytes.Buffer
	cmd := exec.Command(program, "server", "--quiet", "--address", address, t.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+c.AccessKey, "MINIO_ROOT_PASSWORD="+c.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})

	store, err := blob.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := store.Ready(ctx)
		if err == nil {
			return c
		}
		select {
		case <-ended:
			t.Fatalf("MinIO ended: %s", &log)
		case <-ctx.Done():
			t.Fatalf("MinIO does not answer: %v", err)
		case <-time.After(50 * time.Millisecond): // it has no way to say that it is ready
		}
	}
}

func testRoundTrip(t *testing.T, s *server) {
	for name, b := range map[string][]byte{
		"nothing": {}, "text": []byte("a round trip"), "any bytes": random(t, 1<<10), "a result": random(t, 5<<20),
	} {
		sum, err := s.Put(t.Context(), project, b)
		if err != nil || sum != warpket.SHA256(b) {
			t.Fatalf("%s: put under %q (%v)", name, sum, err)
		}
		got, err := s.Get(t.Context(), project, sum)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: got %d bytes of %d back (%v)", name, len(got), len(b), err)
		}
		if has, size, err := s.Has(t.Context(), project, sum); !has || size != int64(len(b)) || err != nil {
			t.Errorf("%s: has %v, size %d (%v)", name, has, size, err)
		}
	}
}

func testProjects(t *testing.T, s *server) {
	sum := s.put(t, random(t, 100))
	other := warpket.NewID(time.Now())
	_, err := s.Get(t.Context(), other, sum)
	wantKind(t, err, warpket.NotFound)
	if err := s.Remove(t.Context(), other, sum); err != nil {
		t.Error(err)
	}
	if has, _, err := s.Has(t.Context(), project, sum); !has || err != nil {
		t.Errorf("another project removed it (%v)", err)
	}
}

func testRepeats(t *testing.T, s *server) {
	b := random(t, 100)
	sum := s.put(t, b)
	s.put(t, b)
	for range 2 {
		if err := s.Remove(t.Context(), project, sum); err != nil {
			t.Error(err)
		}
	}
	if has, _, err := s.Has(t.Context(), project, sum); has || err != nil {
		t.Errorf("it is still there (%v)", err)
	}
}

func testCorrupted(t *testing.T, s *server) {
	sum := s.put(t, random(t, 100))
	key := blob.Key(project, sum)
	if _, err := s.raw.PutObject(t.Context(), s.config.Bucket, key, strings.NewReader("other"), 5, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := s.Get(t.Context(), project, sum)
	if err == nil || b != nil {
		t.Errorf("got %q (%v)", b, err)
	}
	wantKind(t, err, warpket.Internal)
}

func testMissing(t *testing.T, s *server) {
	sum := warpket.SHA256(random(t, 100))
	_, err := s.Get(t.Context(), project, sum)
	wantKind(t, err, warpket.NotFound)
	_, err = s.Open(t.Context(), project, sum)
	wantKind(t, err, warpket.NotFound)
	if has, _, err := s.Has(t.Context(), project, sum); has || err != nil {
		t.Errorf("has %v (%v)", has, err)
	}
}

func testOpen(t *testing.T, s *server) {
	b := random(t, 3<<20)
	r, err := s.Open(t.Context(), project, s.put(t, b))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, 1000)); err != nil || !bytes.Equal(got.Bytes(), b) {
		t.Errorf("read %d bytes of %d (%v)", got.Len(), len(b), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func testConcurrentPuts(t *testing.T, s *server) {
	b := random(t, 100_000)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := s.Put(t.Context(), project, b)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got, err := s.Get(t.Context(), project, warpket.SHA256(b)); err != nil || !bytes.Equal(got, b) {
		t.Errorf("got %d bytes (%v)", len(got), err)
	}
}

func testGetURL(t *testing.T, s *server) {
	if code, got := get(t, s.getURL(t, s.put(t, nil), time.Minute)); code != http.StatusOK || len(got) > 0 {
		t.Errorf("the URL of no bytes answers %d with %d bytes", code, len(got))
	}
	b := random(t, 1000)
	sum := s.put(t, b)
	address := s.getURL(t, sum, time.Minute)
	if code, got := get(t, address); code != http.StatusOK || !bytes.Equal(got, b) {
		t.Errorf("the URL answers %d with %d bytes", code, len(got))
	}

	short := s.getURL(t, sum, time.Second)
	deadline := time.Now().Add(20 * time.Second)
	for code := http.StatusOK; code == http.StatusOK; code, _ = get(t, short) {
		if time.Now().After(deadline) {
			t.Fatal("a URL for one second still works")
		}
		time.Sleep(100 * time.Millisecond) // there is nothing else to wait for
	}

	if err := s.Remove(t.Context(), project, sum); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, address); code != http.StatusNotFound {
		t.Errorf("the URL of what is gone answers %d", code)
	}
}

func testGetURLTampered(t *testing.T, s *server) {
	b := random(t, 1000)
	sum, other := s.put(t, b), s.put(t, random(t, 1000))
	address := s.getURL(t, sum, time.Minute)
	for name, change := range map[string]func(*url.URL, url.Values){
		"another object": func(u *url.URL, _ url.Values) { u.Path = strings.Replace(u.Path, sum, other, 1) },
		"the bucket":     func(u *url.URL, _ url.Values) { u.Path = "/" + s.config.Bucket + "/" },
		"a longer life":  func(_ *url.URL, q url.Values) { q.Set("X-Amz-Expires", "604800") },
		"another time": func(_ *url.URL, q url.Values) {
			q.Set("X-Amz-Date", time.Now().UTC().Add(time.Hour).Format("20060102T150405Z"))
		},
		"no signature":    func(_ *url.URL, q url.Values) { q.Del("X-Amz-Signature") },
		"no query at all": func(_ *url.URL, q url.Values) { clear(q) },
		"a bad signature": func(_ *url.URL, q url.Values) { q.Set("X-Amz-Signature", strings.Repeat("0", 64)) },
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(u, q)
		u.RawQuery = q.Encode()
		if code, got := get(t, u.String()); code < 400 {
			t.Errorf("%s: the URL answers %d with %d bytes", name, code, len(got))
		}
	}
}

func testPutURL(t *testing.T, s *server) {
	for _, b := range [][]byte{{}, random(t, 1000), random(t, 3<<20)} {
		sum := warpket.SHA256(b)
		upload := s.putURL(t, b)
		for range 2 { // it may be repeated
			if code := put(t, upload, upload.URL, b); code != http.StatusOK {
				t.Fatalf("uploading %d bytes: %d", len(b), code)
			}
		}
		if got, err := s.Get(t.Context(), project, sum); err != nil || !bytes.Equal(got, b) {
			t.Errorf("got %d bytes of %d (%v)", len(got), len(b), err)
		}
	}
}

func testPutURLOtherBytes(t *testing.T, s *server) {
	b := random(t, 1000)
	sum := warpket.SHA256(b)
	other := random(t, 1000)
	upload := s.putURL(t, b)
	if code := put(t, upload, upload.URL, other); code < 400 {
		t.Errorf("other bytes are answered with %d", code)
	}
	honest := s.putURL(t, other)
	if code := put(t, honest, upload.URL, other); code < 400 {
		t.Errorf("other bytes with their own checksum are answered with %d", code)
	}
	if code := put(t, blob.Upload{}, upload.URL, other); code < 400 {
		t.Errorf("other bytes without a checksum are answered with %d", code)
	}
	if has, _, err := s.Has(t.Context(), project, sum); has || err != nil {
		t.Errorf("something was stored (%v)", err)
	}
	// What is there already does not change either.
	s.put(t, b)
	put(t, upload, upload.URL, other)
	if got, err := s.Get(t.Context(), project, sum); err != nil || !bytes.Equal(got, b) {
		t.Errorf("stored bytes were replaced (%v)", err)
	}
}

func testPutURLOtherSizes(t *testing.T, s *server) {
	b := random(t, 1000)
	upload := s.putURL(t, b)
	for _, other := range [][]byte{{}, b[:999], append(bytes.Clone(b), 0), random(t, 1<<20)} {
		if code := put(t, upload, upload.URL, other); code < 400 {
			t.Errorf("%d bytes instead of %d are answered with %d", len(other), len(b), code)
		}
	}
	// The right bytes under another size that was agreed on.
	for _, size := range []int64{0, 999, 1001, 1 << 30} {
		wrong, err := s.PutURL(t.Context(), project, warpket.SHA256(b), size, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if code := put(t, wrong, wrong.URL, b); code < 400 {
			t.Errorf("1000 bytes are answered with %d where %d were agreed on", code, size)
		}
	}
	if has, _, err := s.Has(t.Context(), project, warpket.SHA256(b)); has || err != nil {
		t.Errorf("something was stored (%v)", err)
	}
}

func testPutURLTampered(t *testing.T, s *server) {
	b := random(t, 1000)
	upload := s.putURL(t, b)
	elsewhere := strings.Replace(upload.URL, warpket.SHA256(b), warpket.SHA256([]byte("x")), 1)
	if code := put(t, upload, elsewhere, b); code < 400 {
		t.Errorf("another name is answered with %d", code)
	}
	if code, _ := get(t, upload.URL); code < 400 {
		t.Errorf("reading by an upload's URL is answered with %d", code)
	}
	longer := strings.Replace(upload.URL, "X-Amz-Expires=60", "X-Amz-Expires=600", 1)
	if longer == upload.URL {
		t.Fatal("the URL has no lifetime")
	}
	if code := put(t, upload, longer, b); code < 400 {
		t.Errorf("a longer life is answered with %d", code)
	}
	_, err := s.PutURL(t.Context(), project, "../../etc/passwd", 1, time.Minute)
	wantKind(t, err, warpket.Invalid)
}

func testReady(t *testing.T, s *server) {
	errs := make(chan error)
	for range 4 {
		go func() { errs <- s.Ready(t.Context()) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestAnUnreachableStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	_ = gone.Close()
	s, err := blob.New(blob.Config{Endpoint: "http://" + address, AccessKey: "a", SecretKey: "b", Bucket: "bucket", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	sum := warpket.SHA256(nil)
	calls := map[string]func(context.Context) error{
		"ready":  func(ctx context.Context) error { return s.Ready(ctx) },
		"put":    func(ctx context.Context) error { _, err := s.Put(ctx, project, nil); return err },
		"get":    func(ctx context.Context) error { _, err := s.Get(ctx, project, sum); return err },
		"has":    func(ctx context.Context) error { _, _, err := s.Has(ctx, project, sum); return err },
		"remove": func(ctx context.Context) error { return s.Remove(ctx, project, sum) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			wantKind(t, call(ctx), warpket.Unavailable)
			if ctx.Err() != nil {
				t.Error("finding that out took longer than a minute")
			}
		})
	}
}

func TestWrongCredentialsAreOurFault(t *testing.T) {
	t.Parallel()
	c := teststack.S3(t)
	c.SecretKey = "another"
	s, err := blob.New(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), project, []byte("x"))
	wantKind(t, err, warpket.Internal)
	wantKind(t, s.Ready(t.Context()), warpket.Internal)
}

func TestNewRefusesWhatIsNoURL(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"", "host:9000", "ftp://host", "http://", "://", "http://a b"} {
		_, err := blob.New(blob.Config{Endpoint: endpoint})
		wantKind(t, err, warpket.Invalid)
	}
}

func (s *server) put(t *testing.T, b []byte) string {
	t.Helper()
	sum, err := s.Put(t.Context(), project, b)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func (s *server) getURL(t *testing.T, sum string, valid time.Duration) string {
	t.Helper()
	address, err := s.GetURL(t.Context(), project, sum, valid)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func (s *server) putURL(t *testing.T, b []byte) blob.Upload {
	t.Helper()
	upload, err := s.PutURL(t.Context(), project, warpket.SHA256(b), int64(len(b)), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return upload
}

func get(t *testing.T, address string) (int, []byte) {
	t.Helper()
	return do(t, http.MethodGet, address, nil, nil)
}

// put does the upload as a node does, with any address and bytes.
func put(t *testing.T, upload blob.Upload, address string, b []byte) int {
	t.Helper()
	code, _ := do(t, http.MethodPut, address, upload.Header, b)
	return code
}

func do(t *testing.T, method, address string, header map[string]string, b []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if method == http.MethodPut {
			return 599, nil // a server may hang up on what it refuses
		}
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, got
}

// random gives bytes that no other test has.
func random(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprint(&b, warpket.Secret())
	}
	return b.Bytes()[:n]
}

func wantKind(t *testing.T, err error, want warpket.Kind) {
	t.Helper()
	if got := warpket.KindOf(err); got != want {
		t.Errorf("got kind %q (%v), want %q", got, err, want)
	}
}
