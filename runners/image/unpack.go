package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/warpket/warpket"
)

// unpack writes an image to a folder.
func (s *Store) unpack(ctx context.Context, remote v1.Image, dir string, auth Auth, progress func(string)) error {
	digest, err := remote.Digest()
	if err != nil {
		return fmt.Errorf("unpacking an image: %w", err)
	}
	layers, err := remote.Layers()
	if err != nil {
		return warpket.Because(warpket.Invalid, err, "the layers of image %s cannot be read", digest)
	}
	config, err := remote.ConfigFile()
	if err != nil {
		return fmt.Errorf("unpacking image %s: %w", digest, err)
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := errors.Join(os.MkdirAll(rootfs, 0o755), os.Chmod(rootfs, 0o755)); err != nil { //nolint:gosec // programs run as other users
		return fmt.Errorf("unpacking image %s: %w", digest, err)
	}
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return fmt.Errorf("unpacking image %s: %w", digest, err)
	}
	defer func() { _ = root.Close() }()

	u := &unpacker{store: s, root: root}
	defer u.forget()
	for i, layer := range layers {
		report := reporter(fmt.Sprintf("pulling layer %d of %d", i+1, len(layers)), layer, progress)
		if err := u.layer(ctx, layer, report, auth); err != nil {
			return fmt.Errorf("unpacking image %s: %w", digest, err)
		}
	}
	progress(fmt.Sprintf("unpacked %d files, %d MB", u.files, u.bytes/1e6))
	text, err := json.Marshal(Image{
		Digest:     digest.String(),
		Entrypoint: config.Config.Entrypoint,
		Cmd:        config.Config.Cmd,
		Env:        config.Config.Env,
		WorkingDir: path.Clean("/" + config.Config.WorkingDir),
		Size:       u.bytes,
	})
	if err != nil {
		return fmt.Errorf("unpacking image %s: %w", digest, err)
	}
	return os.WriteFile(filepath.Join(dir, "image.json"), text, 0o644) //nolint:gosec // as the files of the image
}

// reporter tells how far a layer is, at most twenty times.
func reporter(what string, layer v1.Layer, progress func(string)) func(read int64) {
	total, err := layer.Size()
	if err != nil {
		total = 0
	}
	step := max(total/20, 10e6)
	last := ""
	return func(read int64) {
		done := read / step * step
		if read == total {
			done = total
		}
		line := fmt.Sprintf("%s: %d of %d MB", what, done/1e6, (total+1e6-1)/1e6)
		if line != last {
			progress(line)
		}
		last = line
	}
}

// unpacker writes layers, one after the other as they build on each other,
// into a folder that nothing in them leads out of. It ignores owners, and what
// only they could do: everything may be read by all and written by the agent.
type unpacker struct {
	store *Store
	root  *os.Root
	files int
	bytes int64
	read  int64

	// What this layer has written, which its own whiteouts spare. Hashes,
	// because the names of a hostile layer would fill the memory.
	own  map[uint64]struct{}
	seed maphash.Seed

	// The last folder, as it was named and as it is: entries come by folder.
	name, resolved string
	at             *os.Root
}

// layer writes one layer. Its end is read to the last byte, which is when its
// digest is compared: less would take a broken layer for a whole one.
func (u *unpacker) layer(ctx context.Context, layer v1.Layer, report func(int64), auth Auth) error {
	packed, err := layer.Compressed()
	if err != nil {
		return u.pulling(ctx, err, auth)
	}
	defer func() { _ = packed.Close() }()
	source := &counter{Reader: packed, report: report}
	unpacked, err := decompress(source)
	if err != nil {
		return u.pulling(ctx, err, auth)
	}
	defer unpacked.Close()

	u.own, u.seed = map[uint64]struct{}{}, maphash.MakeSeed()
	bounded := &bound{Reader: unpacked, u: u}
	if err := u.entries(tar.NewReader(bounded)); err != nil {
		return u.pulling(ctx, err, auth)
	}
	for _, rest := range []io.Reader{bounded, source} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return u.pulling(ctx, err, auth)
		}
	}
	return nil
}

// pulling gives an error on the way its kind: what is not known to be the
// image's fault, or the disk's, is the connection's.
func (*unpacker) pulling(ctx context.Context, err error, auth Auth) error {
	if _, ok := errors.AsType[*warpket.Error](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return warpket.Because(warpket.Unavailable, errors.New(scrub(auth, err.Error())), "a layer is broken, or broke off on the way")
}

// written gives an error of the file system its kind.
func written(err error, name string) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return err
	}
	switch errno { //nolint:exhaustive // the others are ours
	case syscall.ENAMETOOLONG, syscall.EINVAL, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOENT, syscall.EEXIST, syscall.ELOOP, syscall.EMLINK, syscall.EILSEQ:
		return warpket.Errorf(warpket.Invalid, "the image has a file at %.100q that cannot be: %s", name, errno)
	case syscall.ENOSPC, syscall.EDQUOT:
		return warpket.Errorf(warpket.Unavailable, "the node has no space left for the image")
	}
	return warpket.Because(warpket.Internal, err, "the image cannot be written")
}

// counter tells how much has been read.
type counter struct {
	io.Reader
	read   int64
	report func(int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read += int64(n)
	c.report(c.read)
	return n, err
}

// bound stops layers whose packed form hides too much, be it between files.
type bound struct {
	io.Reader
	u *unpacker
}

func (b *bound) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.u.read += int64(n)
	limits := b.u.store.config.Limits
	if b.u.read > limits.Bytes+int64(limits.Files)*(2<<10) {
		return n, b.u.store.tooLarge()
	}
	return n, err
}

func (r *Registries) tooLarge() error {
	return warpket.Errorf(warpket.TooLarge, "the image has more than the %d MB that this node unpacks: use a smaller one", r.config.Limits.Bytes/1e6)
}

// maxWindow is the memory that unpacking may take.
const maxWindow = 128 << 20

func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		return gzip.NewReader(buffered)
	case string(magic) == "\x28\xb5\x2f\xfd":
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

func (u *unpacker) entries(archive *tar.Reader) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.count(); err != nil {
			return err
		}
		if err := u.entry(header, archive); err != nil {
			return written(err, header.Name)
		}
	}
}

func (u *unpacker) count() error {
	u.files++
	if most := u.store.config.Limits.Files; u.files > most {
		return warpket.Errorf(warpket.TooLarge, "the image has more than the %d files that this node unpacks: use a smaller one", most)
	}
	return nil
}

const (
	maxName  = 4096
	whiteout = ".wh." // before the name of what a layer removes
	opaque   = ".wh..wh..opq"
	reserved = ".wh..wh." // of the file system that whiteouts are from
)

func local(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean(name), "/")
	if clean == "" {
		clean = "."
	}
	if len(clean) > maxName || !filepath.IsLocal(clean) {
		return "", warpket.Errorf(warpket.Invalid, "the image has a file at %.100q, which is outside of it", name)
	}
	return clean, nil
}

func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	clean, err := local(header.Name)
	if err != nil || clean == "." {
		return err
	}
	folder, base := path.Dir(clean), path.Base(clean)
	if err := u.enter(folder); err != nil {
		return err
	}
	switch {
	case base == opaque:
		return u.clear(u.resolved)
	case strings.HasPrefix(base, reserved):
		return nil
	case strings.HasPrefix(base, whiteout):
		return u.hide(strings.TrimPrefix(base, whiteout))
	}
	u.mark(path.Join(u.resolved, base))
	switch header.Typeflag {
	case tar.TypeDir:
		return u.folder(base)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(base, header, content)
	case tar.TypeSymlink:
		if err := u.remove(base); err != nil {
			return err
		}
		if err := u.enter(folder); err != nil {
			return err
		}
		return u.at.Symlink(header.Linkname, base)
	case tar.TypeLink:
		return u.link(folder, base, header.Linkname)
	}
	return nil // devices and pipes: there is no use for them
}

// folder makes a folder where there is none.
func (u *unpacker) folder(base string) error {
	info, err := u.at.Lstat(base)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		parent := u.resolved
		if err := u.remove(base); err != nil {
			return err
		}
		if err := u.enter(parent); err != nil {
			return err
		}
	}
	return mkdir(u.at, base)
}

func mkdir(root *os.Root, name string) error {
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755) // whatever the agent's mask
}

func (u *unpacker) file(base string, header *tar.Header, content io.Reader) error {
	if header.Size < 0 || header.Size > u.store.config.Limits.Bytes-u.bytes {
		return u.store.tooLarge()
	}
	u.bytes += header.Size
	parent := u.resolved
	if err := u.remove(base); err != nil {
		return err
	}
	if err := u.enter(parent); err != nil {
		return err
	}
	f, err := u.at.OpenFile(base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if header.Mode&0o111 != 0 {
		mode = 0o755
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// Python takes compiled files for old ones when the time of the source differs.
	return u.at.Chtimes(base, time.Time{}, header.ModTime)
}

// link makes a second name for a file that is there already.
func (u *unpacker) link(folder, base, target string) error {
	clean, err := local(target)
	if err != nil {
		return err
	}
	dir, err := u.resolve(path.Dir(clean), false)
	if err != nil {
		return err
	}
	from, to := path.Join(dir, path.Base(clean)), path.Join(u.resolved, base)
	if from == to {
		return nil
	}
	if info, err := u.root.Lstat(from); err != nil || info.IsDir() {
		return warpket.Errorf(warpket.Invalid, "the image has a link at %.100q to %.100q, which is no file of it", path.Join(folder, base), target)
	}
	if err := u.remove(base); err != nil {
		return err
	}
	return u.root.Link(from, to)
}

// hide removes what earlier layers have under a name.
func (u *unpacker) hide(base string) error {
	if base == "" || base == "." || base == ".." || u.marked(path.Join(u.resolved, base)) {
		return nil
	}
	return u.remove(base)
}

// clear removes what earlier layers have in a folder.
func (u *unpacker) clear(folder string) error {
	f, err := u.root.Open(folder)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	_ = f.Close()
	if err != nil {
		return err
	}
	u.forget()
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		switch {
		case !u.marked(name):
			err = u.root.RemoveAll(name)
		case entry.IsDir():
			err = u.clear(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove makes way at a name in the current folder.
func (u *unpacker) remove(base string) error {
	info, err := u.at.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := u.at.RemoveAll(base); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		u.forget() // it may have been on the way to the current folder
	}
	return nil
}

// enter makes a folder the current one.
func (u *unpacker) enter(folder string) error {
	if u.at != nil && u.name == folder {
		return nil
	}
	resolved, err := u.resolve(folder, true)
	if err != nil {
		return err
	}
	at, err := u.root.OpenRoot(resolved)
	if err != nil {
		return err
	}
	u.forget()
	u.name, u.resolved, u.at = folder, resolved, at
	return nil
}

func (u *unpacker) forget() {
	if u.at != nil {
		_ = u.at.Close()
		u.at = nil
	}
}

const maxLinks = 40

// resolve follows the links on the way to a folder as a program inside the
// image would, for whom its root is all there is. os.Root makes sure of that;
// it would only refuse links to absolute paths.
func (u *unpacker) resolve(folder string, create bool) (string, error) {
	done, links := ".", 0
	todo := strings.Split(folder, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		info, err := u.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && create:
			if err := u.count(); err != nil {
				return "", err
			}
			if err := mkdir(u.root, next); err != nil {
				return "", err
			}
		case errors.Is(err, fs.ErrNotExist):
			return "", warpket.Errorf(warpket.Invalid, "the image has a link to %.100q, which it lacks", folder)
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := u.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if links++; links > maxLinks {
				return "", warpket.Errorf(warpket.Invalid, "the image has links that lead in a circle at %.100q", folder)
			}
			if path.IsAbs(target) {
				done = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		case !info.IsDir():
			return "", warpket.Errorf(warpket.Invalid, "the image has a file at %.100q, where it also has a folder", next)
		}
		if create {
			u.mark(next)
		}
		done = next
	}
	return done, nil
}

func (u *unpacker) mark(name string) { u.own[maphash.String(u.seed, name)] = struct{}{} }

func (u *unpacker) marked(name string) bool {
	_, ok := u.own[maphash.String(u.seed, name)]
	return ok
}
