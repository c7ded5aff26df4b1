package warpket_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func file(path string) warpket.File {
	return warpket.File{Path: path, SHA256: warpket.SHA256([]byte(path)), Size: int64(len(path))}
}

func TestCheckFilesLetsPlainPathsThrough(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"handler.py", "a/b/c.py", "a b.txt", ".gitignore", "..a", "a..b", "a/..b", "-rf", "çà.py", "日本.py", "con", "a'b\"c", strings.Repeat("a", 255),
	} {
		wantKind(t, warpket.CheckFiles([]warpket.File{file(path)}), "")
	}
}

func TestCheckFilesRefusesHostilePaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", ".", "..", "/", "//", "/etc/passwd", "//etc/passwd", "../x", "a/../x", "a/../../x", "a/..", "./a", "a/.", "a/./b", "a//b", "a/",
		`a\b`, `..\x`, `C:\x`, "a\x00b", "a\nb", "a\rb", "a\tb", "a\x1b[31m", "a\x7f", "\xff", "a\u202eyp.exe", "a\u200bb", "a\u2028b", "\ufeffa", "a\u00a0b",
		strings.Repeat("a", 256), strings.Repeat("a/", 127) + "aa",
	} {
		err := warpket.CheckFiles([]warpket.File{file("ok.py"), file(path)})
		wantKind(t, err, warpket.Invalid)
		if e, ok := errors.AsType[*warpket.Error](err); !ok || e.Field != "templateFiles[1].filename" {
			t.Errorf("%q: the error does not name the file: %v", path, err)
		}
	}
}

func TestCheckFilesHasBounds(t *testing.T) {
	t.Parallel()
	files := func(n int, size int64) []warpket.File {
		var list []warpket.File
		for i := range n {
			list = append(list, warpket.File{Path: fmt.Sprintf("f%d", i), Size: size})
		}
		return list
	}
	tests := map[string]struct {
		files []warpket.File
		want  warpket.Kind // "" means allowed
	}{
		"no files":                  {nil, warpket.Invalid},
		"the most files":            {files(warpket.MaxFiles, 1), ""},
		"one file too many":         {files(warpket.MaxFiles+1, 1), warpket.Invalid},
		"the largest file":          {files(1, warpket.MaxFileSize), ""},
		"too large a file":          {files(1, warpket.MaxFileSize+1), warpket.TooLarge},
		"the largest version":       {files(50, warpket.MaxFileSize), ""},
		"too large a version":       {files(51, warpket.MaxFileSize), warpket.TooLarge},
		"an empty file":             {files(1, 0), ""},
		"a path twice":              {[]warpket.File{file("a"), file("b"), file("a")}, warpket.Invalid},
		"a file that is a folder":   {[]warpket.File{file("a"), file("a/b")}, warpket.Invalid},
		"the same, other way round": {[]warpket.File{file("a/b/c"), file("a/b")}, warpket.Invalid},
		"a file beside a folder":    {[]warpket.File{file("a/b"), file("ab"), file("a.b")}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantKind(t, warpket.CheckFiles(test.files), test.want)
		})
	}
}

func TestSnapshotDigestIsThatOfTheContentAlone(t *testing.T) {
	t.Parallel()
	files := []warpket.File{file("a"), file("b"), file("a/b"), file("c/d")}
	want := warpket.SnapshotDigest(files, "m.f", "runtime/x")
	for range 20 {
		shuffled := slices.Clone(files)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for i := range shuffled { // what does not decide a result
			shuffled[i].ID, shuffled[i].Language = warpket.NewID(noon), "text"
		}
		before := slices.Clone(shuffled)
		if got := warpket.SnapshotDigest(shuffled, "m.f", "runtime/x"); got != want {
			t.Fatalf("another order gives %s, not %s", got, want)
		}
		if !slices.Equal(before, shuffled) {
			t.Fatal("the caller's list was sorted")
		}
	}

	changed := slices.Clone(files)
	changed[0].SHA256 = warpket.SHA256([]byte("other"))
	moved := slices.Clone(files)
	moved[0].Path, moved[1].Path = moved[1].Path, moved[0].Path
	digests := map[string]string{want: "the snapshot"}
	for name, digest := range map[string]string{
		"other bytes":      warpket.SnapshotDigest(changed, "m.f", "runtime/x"),
		"swapped names":    warpket.SnapshotDigest(moved, "m.f", "runtime/x"),
		"one file less":    warpket.SnapshotDigest(files[1:], "m.f", "runtime/x"),
		"another entry":    warpket.SnapshotDigest(files, "m.g", "runtime/x"),
		"another runtime":  warpket.SnapshotDigest(files, "m.f", "runtime/y"),
		"a shifted border": warpket.SnapshotDigest(files, "m.fr", "untime/x"),
		"no files":         warpket.SnapshotDigest(nil, "m.f", "runtime/x"),
	} {
		if other := digests[digest]; other != "" {
			t.Errorf("%s has the digest of %s", name, other)
		}
		digests[digest] = name
	}
}
