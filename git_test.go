package warpket_test

import (
	"testing"

	"github.com/warpket/warpket"
)

func TestWhatGitKeepsForItselfIsNoFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"handler.py": true, ".gitignore": true, ".github/x": true, "a/.gitkeep": true, "git": true, "...": true,
		".git": false, ".git/config": false, "a/.GIT/hooks/x": false, ".git.": false, ".git ": false, ".git::$INDEX_ALLOCATION": false, "GIT~1": false,
		"..": false, ".": false, "": false, "a//b": false, "a/../b": false,
	} {
		if warpket.InGit(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
