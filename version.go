package warpket

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a snapshot's files.
const (
	MaxFileSize    = 1 << 20  // bytes of one file
	MaxVersionSize = 50 << 20 // bytes of all files of a version
	MaxFiles       = 1000
)

// Snapshot is an immutable state of a function's files with what they run on.
type Snapshot struct {
	ID         ID
	ProjectID  ID
	FunctionID ID
	RuntimeID  ID
	Entry      string
	Digest     string // over everything that decides a result, see DigestFor
	Files      []File // none if it comes as an image
	Image      *Image // with files: the system in which they run; nil if that is the runtime's
	// Requirements is the digest of its own requirements, see RuntimeKey; empty for none.
	Requirements string
	CreatedDate  time.Time
	Source       *Source // where the files came from; nil for files that were given as such
}

// File is one file of a snapshot. Its bytes are the object {project}/{sha256}.
type File struct {
	ID       ID
	Path     string
	Language string // for people's editors: python, cpp, text, ...
	SHA256   string // hexadecimal
	Size     int64
}

// Version is a published snapshot. Versions of a function are numbered from 1
// and numbers are never reused.
type Version struct {
	ID          ID
	ProjectID   ID
	FunctionID  ID
	Number      int
	Description string
	Snapshot    Snapshot
	Deployed    bool // whether a deployment holds it
	CreatedDate time.Time
	UpdatedDate time.Time // when its description last changed
}

// DraftNumber stands for the draft where a version has its number.
const DraftNumber = 0

// VersionName is what people read for the number of a version.
func VersionName(number int) string {
	if number == DraftNumber {
		return "the draft"
	}
	return "version " + strconv.Itoa(number)
}

// Draft is the snapshot that a function's next version will have when it is
// published. While nobody has changed it, that is the newest version's.
type Draft struct {
	Snapshot Snapshot
	Newest   int  // number of the newest version; 0 before the first
	Versions int  // how many there are
	Changed  bool // whether it differs from the newest version
	Deployed bool // whether a deployment holds it
}

// Version is the draft as executions and deployments take it.
func (d Draft) Version() Version {
	n := d.Snapshot
	return Version{ProjectID: n.ProjectID, FunctionID: n.FunctionID, Number: DraftNumber, Snapshot: n, Deployed: d.Deployed, CreatedDate: n.CreatedDate, UpdatedDate: n.CreatedDate}
}

// Worker is the process of a function that a slot holds.
type Worker struct {
	Slot       ID
	NodeID     ID
	Node       string // its name
	Deployment ID     // empty for one on demand
	Snapshot   ID
	Version    int // number of the version that it runs; 0 for a draft
	Status     SlotStatus
	Resources  Resources
	Devices    []string
	Reason     string // why it is there
	Since      time.Time
}

// SHA256 is the content address of bytes, in hexadecimal.
func SHA256(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// SnapshotDigest is one digest over all that decides a result: the files, the
// entry and the runtime with its lock.
func SnapshotDigest(files []File, entry, runtimeKey string) string {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	type pair struct{ Path, SHA256 string }
	parts := struct {
		Files          []pair
		Entry, Runtime string
	}{Entry: entry, Runtime: runtimeKey}
	for _, f := range sorted {
		parts.Files = append(parts.Files, pair{f.Path, f.SHA256})
	}
	b, _ := json.Marshal(parts) // strings only: cannot fail
	return SHA256(b)
}

// DigestFor is the snapshot's digest on a runtime, whatever its parts are. Files
// in an image have that in the place of a runtime.
func (s Snapshot) DigestFor(runtime RuntimeKey) string {
	if runtime.OfImages() {
		runtime = ImageRuntime(runtime.Platform)
	}
	switch {
	case s.Image == nil:
		return SnapshotDigest(s.Files, s.Entry, runtime.String())
	case len(s.Files) == 0:
		return s.Image.SnapshotDigest(runtime.String())
	}
	return SnapshotDigest(s.Files, s.Entry, s.Image.SnapshotDigest(runtime.String()))
}

// CheckFiles checks the paths and sizes of a version's files.
func CheckFiles(files []File) error {
	if len(files) == 0 {
		return Errorf(Invalid, "a version needs at least one file").At("templateFiles")
	}
	if len(files) > MaxFiles {
		return Errorf(Invalid, "a version has at most %d files, not %d", MaxFiles, len(files)).At("templateFiles")
	}
	var total int64
	seen := map[string]bool{}
	for i, f := range files {
		if err := checkPath(f.Path); err != nil {
			return err.At("templateFiles[%d].filename", i)
		}
		if seen[f.Path] {
			return Errorf(Invalid, "the file %q is there twice", f.Path).At("templateFiles[%d].filename", i)
		}
		seen[f.Path] = true
		if f.Size > MaxFileSize {
			return Errorf(TooLarge, "the file %q has %d bytes; a file has at most %d (1 MiB)", f.Path, f.Size, MaxFileSize).At("templateFiles[%d].content", i)
		}
		total += f.Size
	}
	if total > MaxVersionSize {
		return Errorf(TooLarge, "the files have %d bytes together; a version has at most %d (50 MiB)", total, MaxVersionSize).At("templateFiles")
	}
	for i, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return Errorf(Invalid, "%q is a file and also the folder of %q", dir, f.Path).At("templateFiles[%d].filename", i)
			}
		}
	}
	return nil
}

// checkPath lets through relative, clean, printable paths: what every file
// system and archive takes and nothing that leaves its folder.
func checkPath(p string) *Error {
	switch {
	case p == "":
		return Errorf(Invalid, "a file needs a name")
	case len(p) > 255:
		return Errorf(Invalid, "the file name %.40q... has %d bytes; at most 255 are allowed", p, len(p))
	case !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) || r == '\\' }):
		return Errorf(Invalid, "the file name %q has characters that are not allowed: use printable ones, and / between folders", p)
	case path.IsAbs(p):
		return Errorf(Invalid, "the file name %q is absolute: name it from the function's folder, such as %q", p, strings.TrimLeft(p, "/"))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return Errorf(Invalid, "the file name %q leads out of the function's folder: leave out \"..\"", p)
	case path.Clean(p) != p || p == ".":
		return Errorf(Invalid, "the file name %q is not in its plain form, %q", p, path.Clean(p))
	}
	return nil
}
