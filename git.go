package warpket

import "strings"

// Commit is a version as the function's Git repository has it.
type Commit struct {
	Number int    // of the version
	Hash   string // SHA-1 in hexadecimal
	Gone   bool   // whether the version has been deleted; history keeps its commit
}

// GitObject is an object of a function's Git repository.
type GitObject struct {
	Hash    string // SHA-1 in hexadecimal, over what Git names it by
	Kind    string // commit, tree or blob
	Content []byte // of a commit or a tree
	SHA256  string // of a blob, whose bytes are the object {project}/{sha256}
	Size    int64  // bytes
}

// InGit reports whether a file can be in a Git repository: a clone must not
// write into the folder where Git keeps its own files, under none of the names
// that some file system takes for it.
func InGit(name string) bool {
	for p := range strings.SplitSeq(name, "/") {
		if p == "" || p == "." || p == ".." {
			return false
		}
		p = strings.TrimRight(strings.ToLower(p), ". ")
		if stem, _, _ := strings.Cut(p, ":"); stem == ".git" || stem == "git~1" {
			return false
		}
	}
	return true
}
