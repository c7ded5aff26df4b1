package api

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Two files of a few different lines in any order are the worst case: to find
// their shortest difference takes seconds.
func TestOnlySoManyLinesAreComparedForTheirShortestDifference(t *testing.T) {
	t.Parallel()
	text := func(seed, lines int) []byte {
		var b strings.Builder
		for range lines {
			seed = (seed*1103515245 + 12345) % (1 << 31)
			_, _ = fmt.Fprintln(&b, seed>>16%50)
		}
		return []byte(b.String())
	}
	room := budget{shortest: maxShortest}
	for _, test := range []struct{ lines, left int }{
		{500, maxShortest - 1000}, {maxLines / 2, maxShortest - 1000}, {maxShortest/2 - 500, 0}, {500, 0},
	} {
		before, after := text(1, test.lines), text(2, test.lines)
		got := room.unified(before, after, 2*test.lines)
		if room.shortest != test.left {
			t.Errorf("after %d lines there is room for %d, not %d", 2*test.lines, room.shortest, test.left)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "x")
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
		apply := exec.CommandContext(t.Context(), "git", "apply", "-")
		apply.Dir, apply.Stdin = dir, strings.NewReader("--- a/x\n+++ b/x\n"+string(got))
		if out, err := apply.CombinedOutput(); err != nil {
			t.Errorf("what differs in %d lines cannot be applied: %v %.300s", 2*test.lines, err, out)
		}
		if made, err := os.ReadFile(file); err != nil || string(made) != string(after) {
			t.Errorf("what differs in %d lines does not make the other file (%v)", 2*test.lines, err)
		}
	}
}
