package git

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"

	"github.com/warpket/warpket"
)

// kinds are the words for kinds of objects.
var kinds = map[string]plumbing.ObjectType{"commit": plumbing.CommitObject, "tree": plumbing.TreeObject, "blob": plumbing.BlobObject}

// BlobHash is what Git names a file's bytes by.
func BlobHash(content []byte) string {
	return plumbing.ComputeHash(plumbing.BlobObject, content).String()
}

// Entry is a file of a commit.
type Entry struct {
	Path string
	Hash string // of its bytes, see BlobHash
}

// NewCommit makes the commit of a version, whose files are these, after
// parent, which is empty for the first: the commit's hash, and the commit with
// its trees. The same version gives the same commit wherever it is made.
func NewCommit(v warpket.Version, files []Entry, parent string) (string, []warpket.GitObject, error) {
	var objects []warpket.GitObject
	tree, err := addTree(files, &objects)
	if err != nil {
		return "", nil, err
	}
	by := gitobject.Signature{Name: "warpket", Email: "warpket@localhost", When: v.CreatedDate.UTC().Truncate(time.Second)}
	message := strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(v.Description, "?"), "\x00", " "))
	if message == "" {
		message = fmt.Sprintf("Version %d", v.Number)
	}
	c := gitobject.Commit{Author: by, Committer: by, TreeHash: tree, Message: fmt.Sprintf("%s\n\nWarpket-Version: %d\n", message, v.Number)}
	if parent != "" {
		c.ParentHashes = []plumbing.Hash{plumbing.NewHash(parent)}
	}
	h, err := addObject(&c, &objects)
	return h.String(), objects, err
}

// addTree makes the tree of files whose paths are those from its folder.
func addTree(files []Entry, objects *[]warpket.GitObject) (plumbing.Hash, error) {
	folders := map[string][]Entry{}
	var tree gitobject.Tree
	for _, f := range files {
		if folder, rest, ok := strings.Cut(f.Path, "/"); ok {
			folders[folder] = append(folders[folder], Entry{rest, f.Hash})
		} else {
			tree.Entries = append(tree.Entries, gitobject.TreeEntry{Name: f.Path, Mode: filemode.Regular, Hash: plumbing.NewHash(f.Hash)})
		}
	}
	for name, inside := range folders {
		h, err := addTree(inside, objects)
		if err != nil {
			return h, err
		}
		tree.Entries = append(tree.Entries, gitobject.TreeEntry{Name: name, Mode: filemode.Dir, Hash: h})
	}
	slices.SortFunc(tree.Entries, func(a, b gitobject.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	return addObject(&tree, objects)
}

// sortName is what entries of a tree are sorted by.
func sortName(e gitobject.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

func addObject(o interface {
	Encode(plumbing.EncodedObject) error
}, objects *[]warpket.GitObject,
) (plumbing.Hash, error) {
	var m plumbing.MemoryObject
	if err := o.Encode(&m); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("making a Git object: %w", err)
	}
	r, err := m.Reader()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	*objects = append(*objects, warpket.GitObject{Hash: m.Hash().String(), Kind: m.Type().String(), Content: content, Size: m.Size()})
	return m.Hash(), nil
}

// Objects give what a repository is made of.
type Objects interface {
	// Find gives those of the objects that the repository has; of blobs it
	// gives no content.
	Find(ctx context.Context, hashes []string) ([]warpket.GitObject, error)
	// Bytes gives the content of a blob.
	Bytes(ctx context.Context, blob warpket.GitObject) ([]byte, error)
}

// Repository is one that is served.
type Repository struct {
	Objects
	Commits []warpket.Commit // of its versions, oldest first; the last is main
}

// main is the commit of the newest version; zero if there is none.
func (r *Repository) main() plumbing.Hash {
	if len(r.Commits) == 0 {
		return plumbing.ZeroHash
	}
	return plumbing.NewHash(r.Commits[len(r.Commits)-1].Hash)
}

// batch is how many objects are asked for at once.
const batch = 500

// find gives those of the objects that the repository has, by hash.
func (r *Repository) find(ctx context.Context, hashes []plumbing.Hash) (map[plumbing.Hash]warpket.GitObject, error) {
	out := make(map[plumbing.Hash]warpket.GitObject, len(hashes))
	for part := range slices.Chunk(hashes, batch) {
		texts := make([]string, len(part))
		for i, h := range part {
			texts[i] = h.String()
		}
		found, err := r.Find(ctx, texts)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			out[plumbing.NewHash(o.Hash)] = o
		}
	}
	return out, nil
}

func decodeCommit(o plumbing.EncodedObject) (*gitobject.Commit, error) {
	var c gitobject.Commit
	if err := c.Decode(o); err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the commit %s cannot be read", o.Hash())
	}
	return &c, nil
}

func decodeTree(o plumbing.EncodedObject) ([]gitobject.TreeEntry, error) {
	var t gitobject.Tree
	if err := t.Decode(o); err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the tree %s cannot be read", o.Hash())
	}
	return t.Entries, nil
}

// kept is an object of the repository as go-git decodes it.
func kept(o warpket.GitObject) plumbing.EncodedObject {
	return object{kinds[o.Kind], o.Content}.encoded()
}
