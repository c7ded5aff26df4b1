// Package sources gets the files of functions from where people keep them:
// from zips, from object stores and from Git repositories. All of it is
// strangers', and read within bounds.
package sources

import (
	"archive/zip"
	"bytes"
	"crypto/md5" //nolint:gosec // to find damage on the way, not malice
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/git"
)

// File is a file that was got.
type File = git.File

// MaxZip is how many bytes a zip may have.
const MaxZip = warpket.MaxVersionSize

// maxDirectory is how many bytes the list of contents of a zip may have.
const maxDirectory = 2 << 20

// Sums are the checksums of bytes, in hexadecimal.
type Sums struct{ MD5, SHA256 string }

// SumsOf computes checksums.
func SumsOf(b []byte) Sums {
	sum := md5.Sum(b) //nolint:gosec // see the import
	return Sums{MD5: hex.EncodeToString(sum[:]), SHA256: warpket.SHA256(b)}
}

// Check compares with checksums that were sent along; those that are empty
// were not.
func (s Sums) Check(want Sums) error {
	for _, c := range []struct{ name, have, want string }{{"md5", s.MD5, want.MD5}, {"sha256", s.SHA256, want.SHA256}} {
		if c.want != "" && !strings.EqualFold(c.have, c.want) {
			return warpket.Errorf(warpket.Invalid, "the %s of what has arrived is %s, not %.64q: it is damaged, or it is not what was summed up; send it again", c.name, c.have, c.want).At("package.%s", c.name)
		}
	}
	return nil
}

// Unzip gives the files of a zip, and refuses what no version can have.
func Unzip(b []byte) ([]File, error) {
	if err := checkDirectory(b); err != nil {
		return nil, err
	}
	archive, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // paths are checked below
		return nil, notZip(err)
	}
	var files []warpket.File
	var packed []*zip.File
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") && f.Mode().IsDir() {
			continue
		}
		switch {
		case !f.Mode().IsRegular():
			return nil, warpket.Errorf(warpket.Invalid, "%.80q in the zip is a link, a device or the like: a version has plain files only", f.Name)
		case f.Flags&1 != 0:
			return nil, warpket.Errorf(warpket.Invalid, "%.80q in the zip is encrypted: pack it without a password", f.Name)
		case f.Method != zip.Deflate && f.Method != zip.Store:
			return nil, warpket.Errorf(warpket.Invalid, "%.80q in the zip is compressed in a way that is not known: use deflate, as zip does by default", f.Name)
		}
		size := int64(min(f.UncompressedSize64, uint64(warpket.MaxVersionSize)+1))
		files, packed = append(files, warpket.File{Path: f.Name, Size: size}), append(packed, f)
	}
	if err := checkFiles(files); err != nil {
		return nil, err
	}
	out := make([]File, len(packed))
	for i, f := range packed {
		content, err := unpack(f)
		if err != nil {
			return nil, err
		}
		out[i] = File{Path: f.Name, Content: content}
	}
	return out, nil
}

// unpack reads a file of a zip: as many bytes as it says, not one more.
func unpack(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, notZip(err)
	}
	defer func() { _ = r.Close() }()
	content, err := io.ReadAll(io.LimitReader(r, int64(f.UncompressedSize64)+1)) //nolint:gosec // at most a file's size
	if err != nil {
		return nil, notZip(err)
	}
	if uint64(len(content)) != f.UncompressedSize64 {
		return nil, notZip(errors.New("a file has not the size that it says"))
	}
	return content, nil
}

// checkFiles applies the rules for a version's files.
func checkFiles(files []warpket.File) error {
	err := warpket.CheckFiles(files)
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		return &warpket.Error{Kind: e.Kind, Message: "in the zip: " + e.Message}
	}
	return err
}

func notZip(cause error) error {
	return warpket.Because(warpket.Invalid, cause, "this is not a zip that can be read: make one with \"zip -r function.zip .\" in the function's folder")
}

// endSize is the size of the record that ends a zip, without its comment.
const endSize = 22

// checkDirectory bounds a zip's list of contents before it is read, for that
// is done whole. (APPNOTE.TXT, 4.3.16)
func checkDirectory(b []byte) error {
	end := bytes.LastIndex(b[max(0, len(b)-endSize-0xffff):], []byte("PK\x05\x06"))
	if end < 0 {
		return notZip(errors.New("it has no end"))
	}
	end += max(0, len(b)-endSize-0xffff)
	if len(b)-end < endSize {
		return notZip(errors.New("its end is cut off"))
	}
	count := binary.LittleEndian.Uint16(b[end+10:])
	size, offset := int64(binary.LittleEndian.Uint32(b[end+12:])), int64(binary.LittleEndian.Uint32(b[end+16:]))
	if int(count) > 2*warpket.MaxFiles || size > maxDirectory {
		return warpket.Errorf(warpket.TooLarge, "the zip has %d entries; a version has at most %d files", count, warpket.MaxFiles)
	}
	if offset+size != int64(end) {
		return notZip(errors.New("its list of contents is not where it says"))
	}
	return nil
}
