// Package pypi knows which releases of Python packages an index has, and which
// wheels of them fit a machine. What it has learnt it keeps in memory and in a
// folder, so that an index that cannot be reached stops nobody who asked before.
package pypi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/osv-scalibr/clients/datasource"
	"golang.org/x/sync/singleflight"

	"github.com/warpket/warpket"
)

const (
	fresh      = 10 * time.Minute // how long an answer is used without asking again
	pause      = time.Minute      // after an index could not be reached, while an old answer will do
	timeout    = 20 * time.Second // of one question
	maxProject = 64 << 20         // bytes of an answer
	maxFile    = 256 << 20        // bytes of a file
)

// Config says where the index is and where its answers are kept. The zero
// Config asks the public index and keeps answers in memory only.
type Config struct {
	URL      string // base address of the simple API; empty: the public one
	CacheDir string
	Client   *http.Client // nil: http.DefaultClient
	Clock    func() time.Time
}

// Index is a package index.
type Index struct {
	config  Config
	flights singleflight.Group

	mu    sync.Mutex
	known map[string]answer
}

// answer is what the index said about a package, and when.
type answer struct {
	Project Project
	Asked   time.Time
}

// New makes an index.
func New(config Config) *Index {
	if config.Client == nil {
		config.Client = http.DefaultClient
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	return &Index{config: config, known: map[string]answer{}}
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$`)
	separators = regexp.MustCompile(`[-_.]+`)
)

// Normal is the normal form of a package's name (PEP 503).
func Normal(name string) string {
	return separators.ReplaceAllString(strings.ToLower(name), "-")
}

// Project tells what the index has of a package. An answer may be ten minutes
// old, or older when the index cannot be reached.
func (x *Index) Project(ctx context.Context, name string) (Project, error) {
	if !nameForm.MatchString(name) {
		return Project{}, warpket.Errorf(warpket.Invalid, "%q cannot name a Python package", name)
	}
	name = Normal(name)
	old, have := x.recall(name)
	if have && x.config.Clock().Sub(old.Asked) < fresh {
		return old.Project, nil
	}
	// One question serves all who ask meanwhile, so it does not end with the
	// first of them.
	asked := x.flights.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		p, err := x.ask(ctx, name)
		if err == nil {
			x.remember(answer{p, x.config.Clock()})
		}
		return p, err
	})
	select {
	case <-ctx.Done():
		return Project{}, ctx.Err()
	case r := <-asked:
		if r.Err == nil {
			return r.Val.(Project), nil //nolint:forcetypeassert // the function above returns nothing else
		}
		if have && warpket.KindOf(r.Err) == warpket.Unavailable {
			x.keep(answer{old.Project, x.config.Clock().Add(pause - fresh)})
			return old.Project, nil
		}
		return Project{}, r.Err
	}
}

// Addresses are the addresses of which hosts an installer needs to reach: the
// index and whoever keeps its files, told by its answer about a package that
// every installation needs.
func (x *Index) Addresses(ctx context.Context) ([]*url.URL, error) {
	const name = "uv"
	p, err := x.Project(ctx, name)
	if err == nil && p.Page == "" { // kept by a release that did not note it
		p, err = x.ask(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	addresses := []string{p.Page}
	for _, f := range p.Files {
		addresses = append(addresses, f.URL)
	}
	var found []*url.URL
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err == nil && u.Host != "" && !slices.ContainsFunc(found, func(f *url.URL) bool { return f.Scheme == u.Scheme && f.Host == u.Host }) {
			found = append(found, &url.URL{Scheme: u.Scheme, Host: u.Host})
		}
	}
	return found, nil
}

// ask asks the index. The library knows where the public one is and how to
// speak to it; it drops fields that we need and reads JSON only, so the answer
// is read again from its bytes.
func (x *Index) ask(ctx context.Context, name string) (Project, error) {
	tap := &tap{next: x.config.Client.Transport, limit: maxProject}
	client := *x.config.Client
	client.Transport = tap
	api, err := datasource.NewPyPIRegistryAPIClient(x.config.URL, "", &client)
	if err != nil {
		return Project{}, fmt.Errorf("asking the package index: %w", err)
	}
	_, err = api.GetIndex(ctx, name)
	switch {
	case tap.status == http.StatusNotFound:
		return Project{}, warpket.Errorf(warpket.NotFound, "the package index has no package %q", name)
	case tap.status != http.StatusOK:
		return Project{}, unreachable(name, err, tap.status)
	case tap.readErr != nil:
		return Project{}, unreachable(name, tap.readErr, tap.status)
	}
	return parse(name, tap.url, tap.contentType, tap.body)
}

func unreachable(name string, err error, status int) error {
	why := "it cannot be reached"
	if status != 0 {
		why = fmt.Sprintf("it answered with status %d", status)
	}
	return warpket.Because(warpket.Unavailable, err,
		"the package index could not be asked about %s: %s; try again later, or set WARPKET_PYTHON_INDEX to an index that this machine can reach", name, why)
}

// Download fetches a file and checks it against its SHA-256.
func (x *Index) Download(ctx context.Context, file File) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, file.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("downloading %s: %w", file.Name, err)
	}
	resp, err := x.config.Client.Do(req)
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "%s could not be downloaded: its server cannot be reached", file.Name)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, warpket.Errorf(warpket.Unavailable, "%s could not be downloaded: status %d", file.Name, resp.StatusCode)
	}
	content, err := readAll(resp.Body, maxFile)
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "%s could not be downloaded", file.Name)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != file.SHA256 {
		return nil, warpket.Errorf(warpket.Internal, "%s was downloaded but is not what was expected: its SHA-256 differs", file.Name)
	}
	return content, nil
}

// tap keeps what goes through a transport.
type tap struct {
	next  http.RoundTripper
	limit int64

	status      int
	url         *url.URL
	contentType string
	body        []byte
	readErr     error
}

func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.status, t.url, t.contentType = resp.StatusCode, req.URL, resp.Header.Get("Content-Type")
	t.body, t.readErr = readAll(resp.Body, t.limit)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(t.body))
	return resp, nil
}

var errTooLong = errors.New("the answer is too long")

func readAll(r io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(content)) > limit {
		return nil, errTooLong
	}
	return content, err
}
