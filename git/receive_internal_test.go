package git

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/warpket/warpket"
)

// empty is a repository without anything.
type empty struct{}

func (empty) Find(context.Context, []string) ([]warpket.GitObject, error) { return nil, nil }
func (empty) Bytes(context.Context, warpket.GitObject) ([]byte, error)    { return nil, nil }

// pushing is a first push in the making.
type pushing struct {
	objects []object
	parent  plumbing.Hash // of the commit to come; zero for none
}

func (p *pushing) add(kind plumbing.ObjectType, content string) plumbing.Hash {
	p.objects = append(p.objects, object{kind, []byte(content)})
	return plumbing.ComputeHash(kind, []byte(content))
}

// tree adds a tree of entries, each "MODE NAME", all of them one object.
func (p *pushing) tree(of plumbing.Hash, entries ...string) plumbing.Hash {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e + "\x00")
		b.Write(of[:])
	}
	return p.add(plumbing.TreeObject, b.String())
}

// commit adds a commit of a tree.
func (p *pushing) commit(tree plumbing.Hash) plumbing.Hash {
	parent := ""
	if !p.parent.IsZero() {
		parent = "parent " + p.parent.String() + "\n"
	}
	return p.add(plumbing.CommitObject, fmt.Sprintf("tree %s\n%sauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nmessage\n", tree, parent))
}

// request is the push as git sends it.
func (p *pushing) request(tree plumbing.Hash) *bytes.Buffer {
	commit := p.commit(tree)
	line := fmt.Sprintf("%s %s %s\x00 report-status side-band-64k agent=x", plumbing.ZeroHash, commit, mainRef)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%04x%s0000", len(line)+4, line)
	r := newRaw(uint32(len(p.objects)))
	for _, o := range p.objects {
		r.object(o.kind, string(o.content))
	}
	b.Write(r.sealed().Bytes())
	return &b
}

func TestAFirstPushIsRead(t *testing.T) {
	t.Parallel()
	var p pushing
	blob := p.add(plumbing.BlobObject, "x = 1\n")
	push, err := (&Repository{Objects: empty{}}).ReadPush(t.Context(), p.request(p.tree(blob, "100644 handler.py", "100755 run.sh")))
	if err != nil {
		t.Fatal(err)
	}
	if len(push.Files) != 2 || push.Files[0].Path != "handler.py" || string(push.Files[1].Content) != "x = 1\n" || len(push.Blobs) != 1 || len(push.Objects) != 2 || push.Message != "message" || push.Parent != "" {
		t.Errorf("it is %+v", push)
	}
}

func TestTreesThatNoVersionCanHaveAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tree func(p *pushing, blob plumbing.Hash) plumbing.Hash
		text string
	}{
		"a name that leads out":   {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "100644 ..") }, "no name that Git lets"},
		"a folder that leads out": {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(p.tree(b, "100644 x"), "40000 ..") }, "no name that Git lets"},
		"a path as a name":        {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "100644 a/b") }, "no name that Git lets"},
		"Git's own folder": {func(p *pushing, b plumbing.Hash) plumbing.Hash {
			return p.tree(p.tree(b, "100644 config"), "40000 .GIT")
		}, "no name that Git lets"},
		"a symbolic link":        {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "120000 x") }, "symbolic link"},
		"a submodule":            {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "160000 x") }, "submodule"},
		"a control character":    {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "100644 a\x1b[31m") }, "not allowed"},
		"a file twice":           {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "100644 a", "100644 a") }, "there twice"},
		"a folder as a file":     {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(p.tree(b, "100644 x"), "100644 a") }, "no file but a tree"},
		"a file as a folder":     {func(p *pushing, b plumbing.Hash) plumbing.Hash { return p.tree(b, "40000 a") }, "cannot be read"},
		"a file that is missing": {func(p *pushing, _ plumbing.Hash) plumbing.Hash { return p.tree(plumbing.NewHash("11"), "100644 a") }, "lacks the blob"},
		"a tree that is missing": {func(*pushing, plumbing.Hash) plumbing.Hash { return plumbing.NewHash("11") }, "lacks the tree"},
		"no tree":                {func(p *pushing, _ plumbing.Hash) plumbing.Hash { return p.add(plumbing.TreeObject, "100644 a") }, "cannot be read"},
		"no files":               {func(p *pushing, _ plumbing.Hash) plumbing.Hash { return p.add(plumbing.TreeObject, "") }, "at least one file"},
		"ten to the tenth files": {func(p *pushing, b plumbing.Hash) plumbing.Hash {
			tree := b
			mode := "100644 "
			for range 10 {
				var entries []string
				for i := range 10 {
					entries = append(entries, fmt.Sprint(mode, i))
				}
				tree, mode = p.tree(tree, entries...), "40000 "
			}
			return tree
		}, "at most 1000 files"},
		"as many folders without a file": {func(p *pushing, _ plumbing.Hash) plumbing.Hash {
			tree := p.add(plumbing.TreeObject, "")
			for range 10 {
				var entries []string
				for i := range 10 {
					entries = append(entries, fmt.Sprint("40000 ", i))
				}
				tree = p.tree(tree, entries...)
			}
			return tree
		}, "at most 1000 files"},
	}
	for name, test := range tests {
		var p pushing
		tree := test.tree(&p, p.add(plumbing.BlobObject, "x = 1\n"))
		push, err := (&Repository{Objects: empty{}}).ReadPush(t.Context(), p.request(tree))
		if push == nil || err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong in a commit before the last one would spoil every clone to come.
func TestHistoryThatNobodyCouldCloneIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tree func(p *pushing, blob, root plumbing.Hash) plumbing.Hash
		text string
	}{
		"a file that is a folder, too": {func(p *pushing, b, _ plumbing.Hash) plumbing.Hash { return p.tree(b, "100644 a", "40000 b") }, "cannot be read"},
		"a folder that is a file, too": {func(p *pushing, _, root plumbing.Hash) plumbing.Hash { return p.tree(root, "40000 a", "100644 b") }, "no file but a tree"},
	}
	for name, test := range tests {
		var p pushing
		blob := p.add(plumbing.BlobObject, "x = 1\n")
		root := p.tree(blob, "100644 handler.py")
		p.parent = p.commit(test.tree(&p, blob, root))
		push, err := (&Repository{Objects: empty{}}).ReadPush(t.Context(), p.request(root))
		if push == nil || err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var p pushing
	root := p.tree(p.add(plumbing.BlobObject, "x = 1\n"), "100644 handler.py")
	p.parent = p.commit(root)
	p.parent = p.commit(p.tree(p.parent, "40000 a"))
	if push, err := (&Repository{Objects: empty{}}).ReadPush(t.Context(), p.request(root)); push == nil || err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a folder that is a commit: %v", err)
	}
}

func TestWhatIsNoPushIsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"hello, world", "0008none0000", "00000000", "ffff" + strings.Repeat("x", 100), "0004"} {
		if push, err := (&Repository{Objects: empty{}}).ReadPush(t.Context(), strings.NewReader(body)); push != nil || body != "00000000" && warpket.KindOf(err) != warpket.Malformed {
			t.Errorf("%q: %+v %v", body, push, err)
		}
	}
}
