package sources_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/sources"
)

// entry is one of a zip in the making.
type entry struct {
	name, content string
	mode          fs.FileMode
}

func zipped(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAZipGivesItsFiles(t *testing.T) {
	t.Parallel()
	files, err := sources.Unzip(zipped(t, entry{"lib/", "", fs.ModeDir | 0o755}, entry{"lib/a.txt", "a", 0}, entry{"handler.py", strings.Repeat("x", warpket.MaxFileSize), 0o755}, entry{"empty", "", 0}))
	if err != nil {
		t.Fatal(err)
	}
	want := []sources.File{{Path: "lib/a.txt", Content: []byte("a")}, {Path: "handler.py", Content: bytes.Repeat([]byte("x"), warpket.MaxFileSize)}, {Path: "empty", Content: []byte{}}}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("%.1000s", diff)
	}
}

func TestHostileZipsAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]entry, warpket.MaxFiles+1)
	for i := range many {
		many[i] = entry{name: fmt.Sprintf("f%d", i)}
	}
	big := make([]entry, 60)
	for i := range big {
		big[i] = entry{name: fmt.Sprintf("f%d", i), content: strings.Repeat("x", warpket.MaxFileSize)}
	}
	// changed replaces bytes of a zip, in its list of contents and before its files.
	changed := func(b []byte, old, with string) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(with)) }
	size := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	one := zipped(t, entry{name: "f", content: strings.Repeat("y", 1234)})
	tests := map[string]struct {
		zip  []byte
		kind warpket.Kind
		text string
	}{
		"nothing":                     {nil, warpket.Invalid, "zip -r"},
		"no zip":                      {[]byte(strings.Repeat("handler", 100)), warpket.Invalid, "zip -r"},
		"a zip that is cut off":       {one[:len(one)-10], warpket.Invalid, "zip -r"},
		"a zip whose begin is cut":    {one[10:], warpket.Invalid, "zip -r"},
		"an empty zip":                {zipped(t), warpket.Invalid, "at least one file"},
		"a path that leads out":       {zipped(t, entry{name: "../x"}), warpket.Invalid, "leads out"},
		"an absolute path":            {zipped(t, entry{name: "/etc/x"}), warpket.Invalid, "is absolute"},
		"a path of Windows":           {zipped(t, entry{name: `a\b`}), warpket.Invalid, "not allowed"},
		"a file twice":                {zipped(t, entry{name: "a"}, entry{name: "a"}), warpket.Invalid, "there twice"},
		"a symbolic link":             {zipped(t, entry{"a", "/etc/passwd", fs.ModeSymlink | 0o777}), warpket.Invalid, "plain files only"},
		"a device":                    {zipped(t, entry{"a", "", fs.ModeDevice | 0o600}), warpket.Invalid, "plain files only"},
		"a pipe":                      {zipped(t, entry{"a", "", fs.ModeNamedPipe | 0o600}), warpket.Invalid, "plain files only"},
		"too many files":              {zipped(t, many...), warpket.Invalid, "at most 1000 files"},
		"too large a file":            {zipped(t, entry{name: "a", content: strings.Repeat("x", warpket.MaxFileSize+1)}), warpket.TooLarge, "1 MiB"},
		"too many bytes":              {zipped(t, big...), warpket.TooLarge, "50 MiB"},
		"a file that says it is huge": {changed(one, size(1234), size(0xfffffff0)), warpket.TooLarge, "1 MiB"},
		"a file that says it is less": {changed(one, size(1234), size(3)), warpket.Invalid, "zip -r"},
		"a file that says it is more": {changed(one, size(1234), size(1235)), warpket.Invalid, "zip -r"},
		"a count that is a lie":       {changed(one, "PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00", "PK\x05\x06\x00\x00\x00\x00\xff\xff\xff\xff"), warpket.TooLarge, "entries"},
		"something before it":         {append([]byte("#!/bin/sh\n"), one...), warpket.Invalid, "zip -r"},
	}
	for name, test := range tests {
		_, err := sources.Unzip(test.zip)
		if warpket.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	encrypted := bytes.Clone(one)
	at := bytes.Index(encrypted, []byte("PK\x01\x02"))
	encrypted[at+8] |= 1
	if _, err := sources.Unzip(encrypted); err == nil || !strings.Contains(err.Error(), "without a password") {
		t.Errorf("an encrypted file: %v", err)
	}
}

func FuzzUnzip(f *testing.F) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create("handler.py")
	_, _ = w.Write([]byte("x = 1\n"))
	_ = z.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := sources.Unzip(b)
		total := 0
		for _, file := range files {
			total += len(file.Content)
		}
		if err == nil && (len(files) == 0 || total > warpket.MaxVersionSize) {
			t.Errorf("%d files with %d bytes", len(files), total)
		}
	})
}
