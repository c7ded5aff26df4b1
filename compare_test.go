package warpket_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestFilesAreComparedByPathAndBytes(t *testing.T) {
	t.Parallel()
	file := func(path, sha256 string) warpket.File { return warpket.File{Path: path, SHA256: sha256} }
	tests := map[string]struct {
		before, after []warpket.File
		want          string
	}{
		"the same in another order":              {[]warpket.File{file("a", "1"), file("b", "2")}, []warpket.File{file("b", "2"), file("a", "1")}, ""},
		"one is modified":                        {[]warpket.File{file("a", "1")}, []warpket.File{file("a", "2")}, "modified a"},
		"one is added and one removed":           {[]warpket.File{file("a", "1")}, []warpket.File{file("b", "2")}, "removed a, added b"},
		"one is renamed":                         {[]warpket.File{file("a", "1")}, []warpket.File{file("b", "1")}, "renamed a b"},
		"a copy is no rename":                    {[]warpket.File{file("a", "1")}, []warpket.File{file("a", "1"), file("b", "1")}, "added b"},
		"one of two with the same bytes is gone": {[]warpket.File{file("a", "1"), file("b", "1")}, []warpket.File{file("c", "1")}, "removed b, renamed a c"},
		"two swap their bytes":                   {[]warpket.File{file("a", "1"), file("b", "2")}, []warpket.File{file("a", "2"), file("b", "1")}, "modified a, modified b"},
		"all are gone":                           {[]warpket.File{file("b", "1"), file("a", "2")}, nil, "removed a, removed b"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, c := range warpket.CompareFiles(test.before, test.after) {
				words := []string{string(c.Kind), c.From, c.Path}
				got = append(got, strings.Join(strings.Fields(strings.Join(words, " ")), " "))
			}
			if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALabelMayBeAnyLineOfText(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]warpket.Kind{
		"": "", "Bell: zwei Qubits (größer) 日本": "", strings.Repeat("ü", warpket.MaxLabel): "",
		strings.Repeat("x", warpket.MaxLabel+1): warpket.Invalid, "two\nlines": warpket.Invalid, "nul\x00": warpket.Invalid, "not \xff text": warpket.Invalid,
	} {
		if got := warpket.KindOf(warpket.CheckLabel(label)); got != want {
			t.Errorf("%.20q: %q, want %q", label, got, want)
		}
	}
}
