package warpket

import (
	"slices"
	"strings"
)

// FileChange is how a file of one snapshot differs in another.
type FileChange struct {
	Kind ChangeKind
	Path string // in the other snapshot; where it was, for one that was removed
	From string // where it was, for one that was renamed
	Old  File   // empty for one that was added
	New  File   // empty for one that was removed
}

// ChangeKind says what has happened to a file.
type ChangeKind string

// What may have happened to a file.
const (
	FileAdded    ChangeKind = "added"
	FileRemoved  ChangeKind = "removed"
	FileRenamed  ChangeKind = "renamed" // the same bytes at another path
	FileModified ChangeKind = "modified"
)

// CompareFiles tells what has happened to files, by path.
func CompareFiles(before, after []File) []FileChange {
	was, is := byPath(before), byPath(after)
	var changes []FileChange
	gone := map[string][]File{} // by their bytes
	for _, f := range before {
		switch now, there := is[f.Path]; {
		case !there:
			gone[f.SHA256] = append(gone[f.SHA256], f)
		case now.SHA256 != f.SHA256:
			changes = append(changes, FileChange{Kind: FileModified, Path: f.Path, Old: f, New: now})
		}
	}
	for _, f := range after {
		if _, there := was[f.Path]; there {
			continue
		}
		if same := gone[f.SHA256]; len(same) > 0 {
			changes = append(changes, FileChange{Kind: FileRenamed, Path: f.Path, From: same[0].Path, Old: same[0], New: f})
			gone[f.SHA256] = same[1:]
			continue
		}
		changes = append(changes, FileChange{Kind: FileAdded, Path: f.Path, New: f})
	}
	for _, files := range gone {
		for _, f := range files {
			changes = append(changes, FileChange{Kind: FileRemoved, Path: f.Path, Old: f})
		}
	}
	slices.SortFunc(changes, func(a, b FileChange) int { return strings.Compare(a.Path, b.Path) })
	return changes
}

func byPath(files []File) map[string]File {
	m := make(map[string]File, len(files))
	for _, f := range files {
		m[f.Path] = f
	}
	return m
}
