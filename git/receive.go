package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/warpket/warpket"
)

// Bounds of a push.
const (
	maxCommits  = 1000 // that are new
	maxCommands = 1000
	maxHistory  = 16 << 20 // bytes of commits and trees that are new
	maxEntries  = 20 * warpket.MaxFiles
)

var pushLimits = Limits{Packed: 2 * warpket.MaxVersionSize, Total: 2 * warpket.MaxVersionSize, Object: warpket.MaxFileSize, Objects: 20_000}

// Push is what a push brings: commits after main, the last of which is to be a
// version.
type Push struct {
	Parent  string // what main was for the pusher; empty if there was none
	Commit  string // what it is to be
	Message string // of that commit
	Files   []PushedFile
	Objects []warpket.GitObject // new commits and trees
	Blobs   []PushedBlob        // new blobs, those of Files among them

	commands     []command
	capabilities *capability.List
}

// PushedFile is a file of the commit that is pushed.
type PushedFile struct {
	Path    string
	Content []byte            // if it is new
	Known   warpket.GitObject // else what it is in the repository
}

// PushedBlob is a blob that is new.
type PushedBlob struct {
	Hash    string
	Content []byte
}

// command asks for a ref to be changed.
type command struct {
	ref      plumbing.ReferenceName
	from, to plumbing.Hash
	refused  string // why it is
}

// ReadPush reads a push and checks it against the repository. It is nil if
// there is nothing in it. A push that is refused comes with the error, so that
// Answer can say so to the pusher.
func (r *Repository) ReadPush(ctx context.Context, body io.Reader) (*Push, error) {
	in := bufio.NewReader(body)
	if head, err := in.Peek(4); errors.Is(err, io.EOF) || bytes.Equal(head, pktline.FlushPkt) {
		return nil, nil //nolint:nilnil // git asks so whether it may push
	}
	p := &Push{}
	if err := p.readCommands(in); err != nil {
		return nil, err
	}
	main := p.main()
	if main == nil {
		return p, warpket.Errorf(warpket.Invalid, "only main can be pushed: each push to it makes a version")
	}
	packed, err := readPack(in, pushLimits)
	if err != nil {
		return p, err
	}
	if main.from != r.main() {
		return p, behind()
	}
	c := &checking{Repository: r, packed: packed}
	if err := c.check(ctx, p, main.to); err != nil {
		return p, err
	}
	if !r.main().IsZero() {
		p.Parent = r.main().String()
	}
	p.Commit = main.to.String()
	return p, nil
}

// behind refuses what does not follow the newest version.
func behind() error {
	return warpket.Errorf(warpket.Conflict, "main has a version that yours does not follow, and versions are never taken back: git pull --rebase, then push again")
}

func (p *Push) readCommands(in io.Reader) error {
	malformed := warpket.Errorf(warpket.Malformed, "the request is not one that git sends")
	p.capabilities = capability.NewList()
	lines := pktline.NewScanner(in)
	for lines.Scan() {
		line := string(lines.Bytes())
		if line == "" {
			if len(p.commands) == 0 {
				return malformed
			}
			return p.judge()
		}
		if strings.HasPrefix(line, "shallow ") {
			continue // what the pusher lacks is here
		}
		text, capabilities, first := strings.Cut(line, "\x00")
		if first && len(p.commands) == 0 {
			if err := p.capabilities.Decode([]byte(strings.TrimSpace(capabilities))); err != nil {
				return malformed
			}
		}
		parts := strings.SplitN(strings.TrimSuffix(text, "\n"), " ", 3)
		if len(parts) != 3 || !plumbing.IsHash(parts[0]) || !plumbing.IsHash(parts[1]) || len(p.commands) == maxCommands {
			return malformed
		}
		p.commands = append(p.commands, command{ref: plumbing.ReferenceName(parts[2]), from: plumbing.NewHash(parts[0]), to: plumbing.NewHash(parts[1])})
	}
	return malformed
}

// judge refuses what no push can do, ref by ref.
func (p *Push) judge() error {
	if !p.capabilities.Supports(capability.Sideband64k) || !p.capabilities.Supports(capability.ReportStatus) {
		return warpket.Errorf(warpket.Invalid, "this git is too old: it does not speak side-band-64k and report-status")
	}
	for i := range p.commands {
		switch c := &p.commands[i]; {
		case c.ref == mainRef && c.to.IsZero():
			c.refused = "main cannot be deleted: delete the function instead"
		case c.ref == mainRef:
		case c.ref.IsTag():
			c.refused = "tags are made here: each version has its own, such as v1"
		default:
			c.refused = "there is only main: git push origin HEAD:main makes a version"
		}
	}
	return nil
}

// main is the command that makes a version, if there is one.
func (p *Push) main() *command {
	for i := range p.commands {
		if c := &p.commands[i]; c.ref == mainRef && c.refused == "" {
			return c
		}
	}
	return nil
}

// checking is the check of one push.
type checking struct {
	*Repository
	packed  map[plumbing.Hash]object
	push    *Push
	done    map[plumbing.Hash]bool // of one kind, for what a hash stands for here may be claimed to be something else there
	kept    int64                  // bytes of new commits and trees
	entries int                    // of the trees of the tip that were looked at, the same ones again counted again
}

func (c *checking) check(ctx context.Context, p *Push, tip plumbing.Hash) error {
	c.push, c.done = p, map[plumbing.Hash]bool{}
	if o, ok := c.packed[tip]; !ok || o.kind != plumbing.CommitObject {
		if found, err := c.find(ctx, []plumbing.Hash{tip}); err != nil || found[tip].Kind != "" {
			return errors.Join(err, behind())
		}
		return warpket.Errorf(warpket.Invalid, "the push lacks its own commit %s, or main is not to be a commit", tip)
	}
	trees, err := c.commits(ctx, tip)
	if err != nil {
		return err
	}
	if err := c.trees(ctx, trees); err != nil {
		return err
	}
	last, err := decodeCommit(c.packed[tip].encoded())
	if err != nil {
		return err
	}
	p.Message = strings.TrimSpace(last.Message)
	if err := c.files(ctx, last.TreeHash, ""); err != nil {
		return err
	}
	return c.checkFiles()
}

// commits checks the new commits and gives their trees.
func (c *checking) commits(ctx context.Context, tip plumbing.Hash) (trees []plumbing.Hash, err error) {
	var parents []plumbing.Hash // that are not in the push
	follows := c.main().IsZero()
	for stack := []plumbing.Hash{tip}; len(stack) > 0; {
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if c.done[h] {
			continue
		}
		c.done[h] = true
		if h == c.main() {
			follows = true
			continue
		}
		o, ok := c.packed[h]
		if !ok {
			parents = append(parents, h)
			continue
		}
		commit, err := decodeCommit(o.encoded())
		if err != nil {
			return nil, err
		}
		if len(trees) == maxCommits {
			return nil, warpket.Errorf(warpket.TooLarge, "at most %d commits can be pushed at once: squash some, or push a part", maxCommits)
		}
		trees = append(trees, commit.TreeHash)
		if err := c.keep(h, o); err != nil {
			return nil, err
		}
		stack = append(stack, commit.ParentHashes...)
	}
	if !follows {
		return nil, behind()
	}
	return trees, c.known(ctx, parents, "commit")
}

// known checks that the repository has what the push refers to.
func (c *checking) known(ctx context.Context, hashes []plumbing.Hash, kind string) error {
	found, err := c.find(ctx, hashes)
	if err != nil {
		return err
	}
	for _, h := range hashes {
		if found[h].Kind != kind {
			return warpket.Errorf(warpket.Invalid, "the push lacks the %s %s: a shallow clone may have to be completed, with git fetch --unshallow", kind, h)
		}
	}
	return nil
}

// trees checks the new trees and what is in them, level by level.
func (c *checking) trees(ctx context.Context, level []plumbing.Hash) error {
	c.done = map[plumbing.Hash]bool{}
	files := map[plumbing.Hash]bool{}
	var trees, blobs []plumbing.Hash // that are not in the push
	for len(level) > 0 {
		var next []plumbing.Hash
		for _, h := range level {
			if c.done[h] {
				continue
			}
			c.done[h] = true
			o, ok := c.packed[h]
			if !ok {
				trees = append(trees, h)
				continue
			}
			entries, err := decodeTree(o.encoded())
			if err != nil {
				return err
			}
			if err := c.keep(h, o); err != nil {
				return err
			}
			for _, e := range entries {
				if err := checkEntry(e); err != nil {
					return err
				}
				if e.Mode == filemode.Dir {
					next = append(next, e.Hash)
					continue
				}
				if files[e.Hash] {
					continue
				}
				files[e.Hash] = true
				if b, ok := c.packed[e.Hash]; !ok {
					blobs = append(blobs, e.Hash)
				} else if b.kind == plumbing.BlobObject {
					c.push.Blobs = append(c.push.Blobs, PushedBlob{e.Hash.String(), b.content})
				} else {
					return warpket.Errorf(warpket.Invalid, "%q is no file but a %s", e.Name, b.kind)
				}
			}
		}
		level = next
	}
	return errors.Join(c.known(ctx, trees, "tree"), c.known(ctx, blobs, "blob"))
}

// checkEntry refuses what cannot be a file or a folder of a version.
func checkEntry(e gitobject.TreeEntry) error {
	switch {
	case e.Mode == filemode.Symlink:
		return warpket.Errorf(warpket.Invalid, "%q is a symbolic link: a version has plain files only", e.Name)
	case e.Mode == filemode.Submodule:
		return warpket.Errorf(warpket.Invalid, "%q is a submodule: a version has plain files only, so copy its files in", e.Name)
	case strings.Contains(e.Name, "/") || !warpket.InGit(e.Name):
		return warpket.Errorf(warpket.Invalid, "%q is no name that Git lets a file have", e.Name)
	}
	return nil
}

func (c *checking) keep(h plumbing.Hash, o object) error {
	if c.kept += int64(len(o.content)); c.kept > maxHistory {
		return warpket.Errorf(warpket.TooLarge, "the commits and folders that are pushed have more than %d MiB: squash some commits", maxHistory>>20)
	}
	c.push.Objects = append(c.push.Objects, warpket.GitObject{Hash: h.String(), Kind: o.kind.String(), Content: o.content, Size: int64(len(o.content))})
	return nil
}

// files lists the files of a tree, in the push or not.
func (c *checking) files(ctx context.Context, tree plumbing.Hash, folder string) error {
	o, ok := c.packed[tree]
	if !ok {
		found, err := c.find(ctx, []plumbing.Hash{tree})
		if err != nil {
			return err
		}
		o = object{kinds[found[tree].Kind], found[tree].Content}
	}
	entries, err := decodeTree(o.encoded())
	if err != nil {
		return err
	}
	var unchanged []plumbing.Hash
	for _, e := range entries {
		if _, ok := c.packed[e.Hash]; !ok && e.Mode != filemode.Dir {
			unchanged = append(unchanged, e.Hash)
		}
	}
	known, err := c.find(ctx, unchanged)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := folder + e.Name
		if c.entries++; c.entries > maxEntries || len(c.push.Files) > warpket.MaxFiles {
			return warpket.Errorf(warpket.Invalid, "a version has at most %d files", warpket.MaxFiles)
		}
		if e.Mode == filemode.Dir {
			if err := c.files(ctx, e.Hash, path+"/"); err != nil {
				return err
			}
			continue
		}
		c.push.Files = append(c.push.Files, PushedFile{Path: path, Content: c.packed[e.Hash].content, Known: known[e.Hash]})
	}
	return nil
}

// checkFiles applies the rules for a version's files.
func (c *checking) checkFiles() error {
	files := make([]warpket.File, len(c.push.Files))
	for i, f := range c.push.Files {
		files[i] = warpket.File{Path: f.Path, Size: int64(len(f.Content)) + f.Known.Size}
	}
	return warpket.CheckFiles(files)
}

// Answer tells a pusher how it went.
type Answer struct {
	push  *Push
	w     io.Writer
	side  *sideband.Muxer
	flush func()
}

// Answer begins an answer; flush sends on what has been written.
func (p *Push) Answer(w io.Writer, flush func()) *Answer {
	return &Answer{push: p, w: w, side: sideband.NewMuxer(sideband.Sideband64k, w), flush: flush}
}

// Say shows a line to the pusher, now.
func (a *Answer) Say(format string, args ...any) error {
	_, err := a.side.WriteChannel(sideband.ProgressMessage, []byte(fmt.Sprintf(format, args...)+"\n"))
	a.flush()
	return err
}

// Close says what has become of each ref: main has moved, unless refused says
// why not.
func (a *Answer) Close(refused string) error {
	report := packp.NewReportStatus()
	report.UnpackStatus = "ok"
	for _, c := range a.push.commands {
		status := "ok"
		if c.refused != "" {
			status = c.refused
		} else if refused != "" {
			status = strings.ReplaceAll(refused, "\n", " ")
		}
		report.CommandStatuses = append(report.CommandStatuses, &packp.CommandStatus{ReferenceName: c.ref, Status: status})
	}
	var b bytes.Buffer
	if err := report.Encode(&b); err != nil {
		return err
	}
	if _, err := a.side.Write(b.Bytes()); err != nil {
		return err
	}
	err := pktline.NewEncoder(a.w).Flush()
	a.flush()
	return err
}
