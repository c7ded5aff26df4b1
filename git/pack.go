// Package git speaks Git's protocol, over HTTP, in both roles: it serves a
// repository that is kept elsewhere, and fetches one commit of a stranger's.
// Whatever comes from outside is read within bounds.
package git

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/hash"

	"github.com/warpket/warpket"
)

// Limits are the bounds of a pack.
type Limits struct {
	Packed  int64 // bytes as sent
	Total   int64 // bytes of all objects together
	Object  int64 // bytes of one object
	Objects int
}

// object is an object that a pack brought.
type object struct {
	kind    plumbing.ObjectType
	content []byte
}

// encoded is the object as go-git decodes it.
func (o object) encoded() plumbing.EncodedObject {
	m := &plumbing.MemoryObject{}
	m.SetType(o.kind)
	_, _ = m.Write(o.content) // to memory
	return m
}

// delta is an object that is told as its difference from another.
type delta struct {
	offset int64
	base   plumbing.Hash
	change []byte
}

// unpacking is the reading of one pack.
type unpacking struct {
	limits   Limits
	total    int64
	byHash   map[plumbing.Hash]object
	byOffset map[int64]plumbing.Hash
	waiting  map[plumbing.Hash][]delta // for a base that has not come yet
}

// readPack reads a pack that needs no object besides its own.
func readPack(r io.Reader, limits Limits) (map[plumbing.Hash]object, error) {
	bounded := &io.LimitedReader{R: r, N: limits.Packed + 1}
	u := &unpacking{limits: limits, byHash: map[plumbing.Hash]object{}, byOffset: map[int64]plumbing.Hash{}, waiting: map[plumbing.Hash][]delta{}}
	err := u.read(packfile.NewScanner(bounded))
	if bounded.N <= 0 {
		return nil, warpket.Errorf(warpket.TooLarge, "the pack has more than %d MiB", limits.Packed>>20)
	}
	if err != nil {
		if _, ok := errors.AsType[*warpket.Error](err); ok {
			return nil, err
		}
		return nil, warpket.Because(warpket.Malformed, err, "the pack cannot be read")
	}
	return u.byHash, nil
}

func (u *unpacking) read(s *packfile.Scanner) error {
	_, count, err := s.Header()
	if err != nil {
		return err
	}
	if int64(count) > int64(u.limits.Objects) {
		return warpket.Errorf(warpket.TooLarge, "the pack has %d objects; at most %d are taken at once", count, u.limits.Objects)
	}
	for range count {
		header, err := s.NextObjectHeader()
		if err != nil {
			return err
		}
		if err := u.grow(header.Length); err != nil {
			return err
		}
		var content bytes.Buffer
		n, _, err := s.NextObject(&content)
		if err != nil {
			return err
		}
		if n != header.Length {
			return fmt.Errorf("an object has %d bytes and says %d", n, header.Length)
		}
		if err := u.take(header, content.Bytes()); err != nil {
			return err
		}
	}
	if _, err := s.Checksum(); err != nil {
		return err
	}
	if len(u.waiting) > 0 {
		return errors.New("an object differs from one that is not in the pack")
	}
	return nil
}

func (u *unpacking) take(header *packfile.ObjectHeader, content []byte) error {
	d := delta{offset: header.Offset, change: content}
	switch header.Type {
	case plumbing.OFSDeltaObject:
		base, ok := u.byOffset[header.OffsetReference]
		if !ok {
			return errors.New("an object differs from one that is not before it")
		}
		d.base = base
	case plumbing.REFDeltaObject:
		d.base = header.Reference
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return u.add(header.Offset, object{header.Type, content})
	default:
		return fmt.Errorf("there are no objects of type %d", header.Type)
	}
	if _, ok := u.byHash[d.base]; !ok {
		u.waiting[d.base] = append(u.waiting[d.base], d)
		return nil
	}
	return u.resolve(d)
}

// add takes an object, and those that differ from it, without recursion: a
// chain of differences may be long.
func (u *unpacking) add(offset int64, o object) error {
	h := plumbing.ComputeHash(o.kind, o.content)
	u.byHash[h], u.byOffset[offset] = o, h
	for ready := []plumbing.Hash{h}; len(ready) > 0; {
		base := ready[0]
		ready = ready[1:]
		deltas := u.waiting[base]
		delete(u.waiting, base)
		for _, d := range deltas {
			made, err := u.patched(d)
			if err != nil {
				return err
			}
			h := plumbing.ComputeHash(made.kind, made.content)
			u.byHash[h], u.byOffset[d.offset] = made, h
			ready = append(ready, h)
		}
	}
	return nil
}

func (u *unpacking) resolve(d delta) error {
	o, err := u.patched(d)
	if err != nil {
		return err
	}
	return u.add(d.offset, o)
}

func (u *unpacking) patched(d delta) (object, error) {
	base := u.byHash[d.base]
	_, n := binary.Uvarint(d.change) // the size of the base, then that of the object
	if n <= 0 {
		return object{}, packfile.ErrInvalidDelta
	}
	size, n := binary.Uvarint(d.change[n:])
	if n <= 0 {
		return object{}, packfile.ErrInvalidDelta
	}
	if err := u.grow(int64(min(size, math.MaxInt64))); err != nil {
		return object{}, err
	}
	if len(base.content) == 0 || size == 0 { // which PatchDelta does not take
		return object{}, packfile.ErrInvalidDelta
	}
	content, err := packfile.PatchDelta(base.content, d.change)
	return object{base.kind, content}, err
}

// grow accounts for an object before it is read.
func (u *unpacking) grow(size int64) error {
	if size > u.limits.Object {
		return warpket.Errorf(warpket.TooLarge, "the pack has an object of more than %d MiB", u.limits.Object>>20)
	}
	if u.total += size; u.total > u.limits.Total {
		return warpket.Errorf(warpket.TooLarge, "the objects of the pack have more than %d MiB together", u.limits.Total>>20)
	}
	return nil
}

// packer writes a pack, one object after the other.
type packer struct {
	w    io.Writer // out and sum
	out  io.Writer
	sum  hash.Hash
	zlib *zlib.Writer
}

func newPacker(out io.Writer, objects int) (*packer, error) {
	sum := hash.New(crypto.SHA1)
	p := &packer{w: io.MultiWriter(out, sum), out: out, sum: sum, zlib: zlib.NewWriter(nil)}
	head := binary.BigEndian.AppendUint32([]byte("PACK"), packfile.VersionSupported)
	_, err := p.w.Write(binary.BigEndian.AppendUint32(head, uint32(objects))) //nolint:gosec // far below
	return p, err
}

// add writes an object whole: what a function's files differ by is small.
func (p *packer) add(kind plumbing.ObjectType, content []byte) error {
	size := len(content)
	head := []byte{byte(kind)<<4 | byte(size&0x0f)} //nolint:gosec // three bits and four
	for size >>= 4; size > 0; size >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(size&0x7f))
	}
	if _, err := p.w.Write(head); err != nil {
		return err
	}
	p.zlib.Reset(p.w)
	if _, err := p.zlib.Write(content); err != nil {
		return err
	}
	return p.zlib.Close()
}

func (p *packer) close() error {
	_, err := p.out.Write(p.sum.Sum(nil))
	return err
}
