package git

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/warpket/warpket"
)

// Bounds of what is fetched from strangers.
const (
	fetchTime = 2 * time.Minute
	maxRefs   = 32 << 20 // bytes of a list of refs
)

var fetchLimits = Limits{Packed: 128 << 20, Total: 256 << 20, Object: 32 << 20, Objects: 100_000}

// Fetcher fetches from repositories elsewhere.
type Fetcher struct {
	// Transport makes the requests, and refuses hosts that are not to be asked.
	Transport http.RoundTripper
	// Plain are networks of the operator's that may be asked without TLS.
	Plain []netip.Prefix
}

// File is a file that was fetched.
type File struct {
	Path    string
	Content []byte
}

// Fetch gives the files that a repository has at a ref, below a path, and the
// hash of the commit. Submodules are left out. The history is not fetched.
func (f Fetcher) Fetch(ctx context.Context, from warpket.Source, auth warpket.RegistryAuth) ([]File, string, error) {
	if err := from.Check(); err != nil {
		return nil, "", err
	}
	u, err := url.Parse(from.URL)
	if err != nil {
		return nil, "", err
	}
	if u.Scheme != "https" && !f.plain(u.Hostname()) {
		return nil, "", warpket.Errorf(warpket.Invalid, "what is fetched without TLS can be changed on its way: give a URL with https").At("git.url")
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	files, commit, err := f.fetch(ctx, from, auth)
	if err != nil {
		return nil, "", explain(err, from, u.Host, auth)
	}
	return files, commit, nil
}

func (f Fetcher) plain(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range f.Plain {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

func (f Fetcher) fetch(ctx context.Context, from warpket.Source, auth warpket.RegistryAuth) (files []File, commit string, err error) {
	endpoint, err := transport.NewEndpoint(from.URL)
	if err != nil {
		return nil, "", err
	}
	var method transport.AuthMethod
	switch {
	case auth.Token != "": // hosts take a token as the password, and the name that some want
		method = &githttp.BasicAuth{Username: "x-token-auth", Password: auth.Token}
	case auth.User != "":
		method = &githttp.BasicAuth{Username: auth.User, Password: auth.Password}
	}
	requests := &bounded{next: f.Transport}
	defer func() {
		if err != nil && requests.failure != nil {
			err = requests.failure // go-git does not wrap all that it gets
		}
	}()
	client := githttp.NewClient(&http.Client{Transport: requests})
	session, err := client.NewUploadPackSession(endpoint, method)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = session.Close() }()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, "", err
	}
	want, err := wanted(refs, from)
	if err != nil {
		return nil, "", err
	}
	request := packp.NewUploadPackRequest()
	request.Wants = []plumbing.Hash{want}
	if refs.Capabilities.Supports(capability.Shallow) {
		request.Depth = packp.DepthCommits(1)
		if err := request.Capabilities.Set(capability.Shallow); err != nil {
			return nil, "", err
		}
	}
	if err := request.Capabilities.Set(capability.OFSDelta); err != nil {
		return nil, "", err
	}
	response, err := session.UploadPack(ctx, request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Close() }()
	packed, err := readPack(response, fetchLimits)
	if err != nil {
		return nil, "", err
	}
	return checkout(packed, want, from)
}

// wanted finds what a ref stands for now.
func wanted(refs *packp.AdvRefs, from warpket.Source) (plumbing.Hash, error) {
	if from.Ref == "" {
		if refs.Head == nil {
			return plumbing.ZeroHash, warpket.Errorf(warpket.Invalid, "%s has no default branch: name a branch or a tag in ref", from.URL).At("git.ref")
		}
		return *refs.Head, nil
	}
	for _, name := range []string{from.Ref, "refs/heads/" + from.Ref, "refs/tags/" + from.Ref} {
		if h, ok := refs.References[name]; ok {
			return h, nil
		}
	}
	if plumbing.IsHash(from.Ref) {
		return plumbing.NewHash(from.Ref), nil
	}
	var some []string
	for name := range refs.References {
		if short, ok := strings.CutPrefix(name, "refs/heads/"); ok && len(some) < 10 {
			some = append(some, fmt.Sprintf("%.60q", short))
		}
	}
	return plumbing.ZeroHash, warpket.Errorf(warpket.Invalid, "%s has no branch or tag %.80q; it has, for instance, the branches %s", from.URL, from.Ref, strings.Join(some, ", ")).At("git.ref")
}

// checkout gives the files of a commit, or of the one that a tag points to.
func checkout(packed map[plumbing.Hash]object, at plumbing.Hash, from warpket.Source) ([]File, string, error) {
	for packed[at].kind == plumbing.TagObject {
		var t gitobject.Tag
		if err := t.Decode(packed[at].encoded()); err != nil {
			return nil, "", warpket.Because(warpket.Malformed, err, "the tag %s cannot be read", at)
		}
		if t.Target == at {
			break
		}
		at = t.Target
	}
	o, ok := packed[at]
	if !ok || o.kind != plumbing.CommitObject {
		return nil, "", warpket.Errorf(warpket.Invalid, "%.80q is no commit of %s that it gives away: name a branch or a tag", from.Ref, from.URL).At("git.ref")
	}
	commit, err := decodeCommit(o.encoded())
	if err != nil {
		return nil, "", err
	}
	tree, err := descend(packed, commit.TreeHash, from)
	if err != nil {
		return nil, "", err
	}
	w := &walker{packed: packed}
	if err := w.walk(tree, ""); err != nil {
		return nil, "", err
	}
	if len(w.files) == 0 {
		return nil, "", warpket.Errorf(warpket.Invalid, "there are no files in %s", from.URL).At("git.path")
	}
	return w.files, at.String(), nil
}

// descend finds the tree of the folder that was asked for.
func descend(packed map[plumbing.Hash]object, tree plumbing.Hash, from warpket.Source) (plumbing.Hash, error) {
	if from.Path == "" {
		return tree, nil
	}
	for name := range strings.SplitSeq(from.Path, "/") {
		entries, err := decodeTree(packed[tree].encoded())
		if err != nil {
			return tree, err
		}
		found := false
		var folders []string
		for _, e := range entries {
			if e.Mode != filemode.Dir {
				continue
			}
			if e.Name == name {
				tree, found = e.Hash, true
			}
			if len(folders) < 10 {
				folders = append(folders, fmt.Sprintf("%.60q", e.Name))
			}
		}
		if !found {
			return tree, warpket.Errorf(warpket.Invalid, "%s has no folder %.200q there; beside %.80q are the folders %s", from.URL, from.Path, name, strings.Join(folders, ", ")).At("git.path")
		}
	}
	return tree, nil
}

// walker collects the files of a tree.
type walker struct {
	packed  map[plumbing.Hash]object
	files   []File
	entries int
	total   int64
}

func (w *walker) walk(tree plumbing.Hash, folder string) error {
	o, ok := w.packed[tree]
	if !ok {
		return warpket.Errorf(warpket.Malformed, "the pack lacks the tree %s", tree)
	}
	entries, err := decodeTree(o.encoded())
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name)
		if w.entries++; w.entries > maxEntries || len(w.files) > warpket.MaxFiles {
			return warpket.Errorf(warpket.Invalid, "there are more than %d files: name a folder of the repository in path", warpket.MaxFiles).At("git.path")
		}
		if e.Mode == filemode.Submodule {
			continue
		}
		if err := checkEntry(e); err != nil {
			return err
		}
		if e.Mode == filemode.Dir {
			if err := w.walk(e.Hash, name); err != nil {
				return err
			}
			continue
		}
		b, ok := w.packed[e.Hash]
		if !ok || b.kind != plumbing.BlobObject {
			return warpket.Errorf(warpket.Malformed, "the pack lacks the file %q", name)
		}
		if w.total += int64(len(b.content)); w.total > warpket.MaxVersionSize {
			return warpket.Errorf(warpket.TooLarge, "the files have more than %d MiB together: name a folder of the repository in path", warpket.MaxVersionSize>>20).At("git.path")
		}
		w.files = append(w.files, File{name, b.content})
	}
	return nil
}

// bounded reads no more of an answer than may be needed, and keeps what went
// wrong. It serves one fetch, whose requests follow each other.
type bounded struct {
	next    http.RoundTripper
	failure error
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err != nil {
		b.failure = err
		return nil, err
	}
	limit := int64(maxRefs)
	if r.Method == http.MethodPost {
		limit = fetchLimits.Packed + 1<<20
	}
	response.Body = &boundedBody{ReadCloser: response.Body, left: limit}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, warpket.Errorf(warpket.TooLarge, "the repository is larger than what is fetched (%d MiB): use one of its own for the function", fetchLimits.Packed>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// explain gives an error of a repository its kind: it is the request that has
// to change, or that can be sent again. What the host has said is not repeated:
// it may say what it was told in confidence.
func explain(err error, from warpket.Source, host string, auth warpket.RegistryAuth) error {
	if known, ok := errors.AsType[*warpket.Error](err); ok {
		if known.Field == "" {
			known.Field = "git"
		}
		kind := known.Kind
		if kind != warpket.Denied && kind != warpket.TooLarge {
			kind = warpket.Invalid
		}
		return &warpket.Error{Kind: kind, Message: "fetching from " + host + ": " + known.Message, Field: known.Field, Cause: known.Cause}
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	ref := from.Ref
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return warpket.Errorf(warpket.Invalid, "%s does not let %s be read: name a secret in credentials whose value is %s that may", host, from.URL, warpket.RegistryAuthForm).At("git.credentials")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return warpket.Errorf(warpket.Invalid, "%s has no repository %s, or none that may be read with what was given", host, from.URL).At("git.url")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return warpket.Errorf(warpket.Invalid, "the repository %s is empty", from.URL).At("git.url")
	case errors.Is(err, transport.ErrEmptyUploadPackRequest), plumbing.IsHash(ref) && !errors.Is(err, context.DeadlineExceeded):
		return warpket.Because(warpket.Invalid, scrubbed(err, auth), "%s does not give %.80q of %s: name a branch or a tag", host, ref, from.URL).At("git.ref")
	}
	reason := "its answer cannot be used"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		reason = "there is no such host"
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		reason = "it did not answer in time"
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		reason = "its certificate is signed by nobody that this server knows"
	}
	return warpket.Because(warpket.Invalid, scrubbed(err, auth), "%s did not give %s: %s", host, from.URL, reason).At("git.url")
}

// scrubbed takes out of an error for the log what was given in confidence.
func scrubbed(err error, auth warpket.RegistryAuth) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	for _, secret := range []string{auth.Password, auth.Token} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	return errors.New(text)
}
