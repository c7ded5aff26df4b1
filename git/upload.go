package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/warpket/warpket"
)

// The services of the protocol.
const (
	UploadPack  = "git-upload-pack"  // clone, fetch, pull
	ReceivePack = "git-receive-pack" // push
)

const mainRef = plumbing.ReferenceName("refs/heads/main")

// Advertise answers what the repository has: the branch main at the newest
// version, and a tag for each version.
func (r *Repository) Advertise(w io.Writer, service string) error {
	lines := pktline.NewEncoder(w)
	if err := lines.Encodef("# service=%s\n", service); err != nil {
		return err
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	a := packp.NewAdvRefs()
	can := []capability.Capability{capability.OFSDelta, capability.Sideband64k}
	if service == ReceivePack {
		// Packs that need no other objects can be checked by themselves.
		can = append(can, capability.ReportStatus, capability.DeleteRefs, "no-thin")
	} else {
		can = append(can, capability.MultiACKDetailed, capability.Shallow, capability.NoProgress)
	}
	for _, c := range can {
		if err := a.Capabilities.Set(c); err != nil {
			return err
		}
	}
	if err := a.Capabilities.Set(capability.Agent, "warpket"); err != nil {
		return err
	}
	for _, c := range r.Commits {
		if !c.Gone {
			a.References[fmt.Sprintf("refs/tags/v%d", c.Number)] = plumbing.NewHash(c.Hash)
		}
	}
	if head := r.main(); !head.IsZero() {
		a.References[mainRef.String()] = head
		if service == UploadPack {
			a.Head = &head
			if err := a.Capabilities.Set(capability.SymRef, "HEAD:"+mainRef.String()); err != nil {
				return err
			}
		}
	}
	return a.Encode(w)
}

// RemoteError answers a request for a service with a message for the person
// who sent it.
func RemoteError(w io.Writer, message string) error {
	return pktline.NewEncoder(w).Encodef("ERR %s\n", strings.ReplaceAll(message, "\n", " "))
}

// upload is one answer to who fetches.
type upload struct {
	*Repository
	request *packp.UploadRequest
	commits map[plumbing.Hash]commit // those that were looked at
	has     map[plumbing.Hash]bool   // commits that the client has
	edge    map[plumbing.Hash]bool   // commits whose parents the client is not to get
}

// commit is what is needed of one.
type commit struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
}

// Upload answers who clones or fetches: one round of talk about what they have,
// or the objects that they lack.
func (r *Repository) Upload(ctx context.Context, body io.Reader, w io.Writer) error {
	in := bufio.NewReader(body)
	if head, err := in.Peek(4); errors.Is(err, io.EOF) || bytes.Equal(head, pktline.FlushPkt) {
		return nil // nothing is wanted
	}
	u := &upload{Repository: r, request: packp.NewUploadRequest(), commits: map[plumbing.Hash]commit{}, has: map[plumbing.Hash]bool{}, edge: map[plumbing.Hash]bool{}}
	if err := u.request.Decode(in); err != nil {
		return warpket.Because(warpket.Malformed, err, "the request is not one that git sends")
	}
	if err := u.check(); err != nil {
		return err
	}
	_, err := in.Peek(1)
	ends := errors.Is(err, io.EOF) // it asks for the edge of the history first
	haves, done, err := readHaves(in)
	if err != nil {
		return err
	}
	if err := u.load(ctx, u.request.Wants); err != nil {
		return err
	}
	if err := u.deepen(w); err != nil || ends {
		return err
	}
	common, err := u.find(ctx, haves)
	if err != nil {
		return err
	}
	if err := u.acknowledge(pktline.NewEncoder(w), haves, common, done); err != nil || !done {
		return err
	}
	if err := u.load(ctx, slices.Collect(maps.Keys(u.has))); err != nil {
		return err
	}
	return u.send(ctx, w)
}

func (u *upload) check() error {
	tips := map[plumbing.Hash]bool{}
	for _, c := range u.Commits {
		tips[plumbing.NewHash(c.Hash)] = true
	}
	for _, h := range u.request.Wants {
		if !tips[h] {
			return warpket.Errorf(warpket.NotFound, "there is no version with the commit %s: fetch main, or a tag such as v1", h)
		}
	}
	if _, ok := u.request.Depth.(packp.DepthCommits); !ok {
		return warpket.Errorf(warpket.Invalid, "a shallow clone is made by a number of commits (--depth), not by dates or names")
	}
	return nil
}

// readHaves reads which commits the client has, up to the end of the round.
func readHaves(in io.Reader) (haves []plumbing.Hash, done bool, err error) {
	lines := pktline.NewScanner(in)
	for lines.Scan() {
		line := strings.TrimSuffix(string(lines.Bytes()), "\n")
		hash, have := strings.CutPrefix(line, "have ")
		switch {
		case line == "done":
			return haves, true, nil
		case line == "":
			return haves, false, nil
		case have && plumbing.IsHash(hash):
			haves = append(haves, plumbing.NewHash(hash))
		default:
			return nil, false, warpket.Errorf(warpket.Malformed, "the request is not one that git sends")
		}
	}
	return haves, false, lines.Err()
}

// load reads commits with all their ancestors. Commits of versions, from the
// newest on, are read along, for nearly all history is one line.
func (u *upload) load(ctx context.Context, hashes []plumbing.Hash) error {
	ahead := len(u.Commits)
	for len(hashes) > 0 {
		ask := slices.Clone(hashes)
		for ; ahead > 0 && len(ask) < batch; ahead-- {
			if h := plumbing.NewHash(u.Commits[ahead-1].Hash); !u.known(h) {
				ask = append(ask, h)
			}
		}
		found, err := u.find(ctx, ask)
		if err != nil {
			return err
		}
		var next []plumbing.Hash
		for h, o := range found {
			if o.Kind != "commit" {
				continue
			}
			c, err := decodeCommit(kept(o))
			if err != nil {
				return err
			}
			u.commits[h] = commit{tree: c.TreeHash, parents: c.ParentHashes}
			next = append(next, c.ParentHashes...)
		}
		hashes = nil
		asked := map[plumbing.Hash]bool{}
		for _, h := range next {
			if !u.known(h) && !asked[h] {
				asked[h] = true
				hashes = append(hashes, h)
			}
		}
	}
	return nil
}

// known reports whether a commit was looked at.
func (u *upload) known(h plumbing.Hash) bool {
	_, ok := u.commits[h]
	return ok
}

// deepen finds where the client's history is to end, and says so if the client
// has asked for a depth.
func (u *upload) deepen(w io.Writer) error {
	before := map[plumbing.Hash]bool{}
	for _, h := range u.request.Shallows {
		before[h], u.edge[h] = true, true
	}
	depth, _ := u.request.Depth.(packp.DepthCommits)
	if depth.IsZero() {
		return nil
	}
	u.edge = map[plumbing.Hash]bool{}
	var update packp.ShallowUpdate
	seen := map[plumbing.Hash]bool{}
	level := u.request.Wants
	for n := 1; len(level) > 0; n++ {
		var next []plumbing.Hash
		for _, h := range level {
			c, ok := u.commits[h]
			if seen[h] || !ok {
				continue
			}
			seen[h] = true
			switch {
			case n == int(depth) && len(c.parents) > 0:
				u.edge[h] = true
				if !before[h] {
					update.Shallows = append(update.Shallows, h)
				}
				continue
			case before[h]:
				update.Unshallows = append(update.Unshallows, h)
			}
			next = append(next, c.parents...)
		}
		level = next
		if n >= int(depth) {
			break
		}
	}
	return update.Encode(w)
}

// acknowledge says which of the client's commits are known here too.
func (u *upload) acknowledge(lines *pktline.Encoder, haves []plumbing.Hash, common map[plumbing.Hash]warpket.GitObject, done bool) error {
	detailed := u.request.Capabilities.Supports(capability.MultiACKDetailed)
	last := ""
	for _, h := range haves {
		if common[h].Kind != "commit" {
			continue
		}
		first := last == ""
		last = h.String()
		u.has[h] = true
		switch {
		case detailed:
			if err := lines.Encodef("ACK %s common\n", last); err != nil {
				return err
			}
		case first:
			if err := lines.Encodef("ACK %s\n", last); err != nil {
				return err
			}
		}
	}
	switch {
	case done && last != "" && detailed:
		return lines.Encodef("ACK %s\n", last)
	case done && last != "", !done && last != "" && !detailed:
		return nil
	}
	return lines.EncodeString("NAK\n")
}

// maxSent is how many objects one answer may have.
const maxSent = 1_000_000

// send packs what the client lacks.
func (u *upload) send(ctx context.Context, w io.Writer) error {
	commits, trees, blobs, err := u.lacking(ctx)
	if err != nil {
		return err
	}
	banded := u.request.Capabilities.Supports(capability.Sideband64k)
	side := sideband.NewMuxer(sideband.Sideband64k, w)
	buffered := bufio.NewWriterSize(w, 32<<10)
	if banded {
		buffered.Reset(side)
	}
	p, err := newPacker(buffered, len(commits)+len(trees)+len(blobs))
	if err != nil {
		return err
	}
	for _, list := range [][]plumbing.Hash{commits, trees, blobs} {
		if err := u.pack(ctx, p, list); err != nil {
			if banded {
				_, _ = side.WriteChannel(sideband.ErrorMessage, []byte("the repository cannot be read now; try again\n"))
			}
			return err
		}
	}
	if err := p.close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil || !banded {
		return err
	}
	return pktline.NewEncoder(w).Flush()
}

func (u *upload) pack(ctx context.Context, p *packer, hashes []plumbing.Hash) error {
	for len(hashes) > 0 {
		part := hashes[:min(batch, len(hashes))]
		hashes = hashes[len(part):]
		found, err := u.find(ctx, part)
		if err != nil {
			return err
		}
		for _, h := range part {
			o, ok := found[h]
			if !ok {
				return fmt.Errorf("the object %s is missing", h)
			}
			content := o.Content
			if o.Kind == "blob" {
				if content, err = u.Bytes(ctx, o); err != nil {
					return err
				}
			}
			if err := p.add(kinds[o.Kind], content); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacking lists the objects that the client has not.
func (u *upload) lacking(ctx context.Context) (commits, trees, blobs []plumbing.Hash, err error) {
	theirs := u.theirs()
	seen := map[plumbing.Hash]bool{}
	var known, wanted []plumbing.Hash // trees
	for h := range u.has {
		known = append(known, u.commits[h].tree)
	}
	for stack := slices.Clone(u.request.Wants); len(stack) > 0; {
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[h] {
			continue
		}
		seen[h] = true
		c := u.commits[h]
		if theirs[h] {
			known = append(known, c.tree)
		} else {
			commits, wanted = append(commits, h), append(wanted, c.tree)
		}
		if !u.edge[h] && (!theirs[h] || len(u.request.Shallows) > 0) {
			stack = append(stack, c.parents...)
		}
	}
	inside := map[plumbing.Hash]bool{}
	if _, _, err := u.walk(ctx, known, inside); err != nil {
		return nil, nil, nil, err
	}
	trees, blobs, err = u.walk(ctx, wanted, inside)
	if err == nil && len(commits)+len(trees)+len(blobs) > maxSent {
		err = warpket.Errorf(warpket.TooLarge, "the history has more than %d objects: take a part of it, with git clone --depth 10", maxSent)
	}
	return commits, trees, blobs, err
}

// theirs are the commits that the client has: those that it named and what
// comes before them, as far as its history goes.
func (u *upload) theirs() map[plumbing.Hash]bool {
	ends := map[plumbing.Hash]bool{}
	for _, h := range u.request.Shallows {
		ends[h] = true
	}
	theirs := map[plumbing.Hash]bool{}
	var stack []plumbing.Hash
	for h := range u.has {
		stack = append(stack, h)
	}
	for len(stack) > 0 {
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if theirs[h] {
			continue
		}
		theirs[h] = true
		if !ends[h] {
			stack = append(stack, u.commits[h].parents...)
		}
	}
	return theirs
}

// walk lists what is in trees and not in seen, and adds it there.
func (u *upload) walk(ctx context.Context, level []plumbing.Hash, seen map[plumbing.Hash]bool) (trees, blobs []plumbing.Hash, err error) {
	fresh := func(list []plumbing.Hash) (out []plumbing.Hash) {
		for _, h := range list {
			if !seen[h] {
				seen[h] = true
				out = append(out, h)
			}
		}
		return out
	}
	for level = fresh(level); len(level) > 0; {
		trees = append(trees, level...)
		var next []plumbing.Hash
		for len(level) > 0 {
			part := level[:min(batch, len(level))]
			level = level[len(part):]
			found, err := u.find(ctx, part)
			if err != nil {
				return nil, nil, err
			}
			for _, o := range found {
				entries, err := decodeTree(kept(o))
				if err != nil {
					return nil, nil, err
				}
				for _, e := range entries {
					if len(fresh([]plumbing.Hash{e.Hash})) == 0 {
						continue
					}
					if e.Mode == filemode.Dir {
						next = append(next, e.Hash)
					} else {
						blobs = append(blobs, e.Hash)
					}
				}
			}
			if len(seen) > 2*maxSent {
				return nil, nil, warpket.Errorf(warpket.TooLarge, "the history has too many objects: take a part of it, with git clone --depth 10")
			}
		}
		level = next
	}
	return trees, blobs, nil
}
