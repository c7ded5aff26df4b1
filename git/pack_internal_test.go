package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/warpket/warpket"
)

// raw is a pack in the making, honest or not.
type raw struct{ bytes.Buffer }

func newRaw(count uint32) *raw {
	r := &raw{}
	r.WriteString("PACK\x00\x00\x00\x02")
	r.Write(binary.BigEndian.AppendUint32(nil, count))
	return r
}

// head writes the head of an object that says a size.
func (r *raw) head(kind plumbing.ObjectType, size int) {
	c := byte(kind)<<4 | byte(size&0x0f)
	for size >>= 4; size > 0; size >>= 7 {
		r.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	r.WriteByte(c)
}

func (r *raw) packed(content []byte) {
	z := zlib.NewWriter(r)
	_, _ = z.Write(content)
	_ = z.Close()
}

func (r *raw) object(kind plumbing.ObjectType, content string) int {
	at := r.Len()
	r.head(kind, len(content))
	r.packed([]byte(content))
	return at
}

// refDelta writes an object that differs from a base by its hash.
func (r *raw) refDelta(base plumbing.Hash, change []byte) {
	r.head(plumbing.REFDeltaObject, len(change))
	r.Write(base[:])
	r.packed(change)
}

// offsetDelta writes an object that differs from one at an offset.
func (r *raw) offsetDelta(base int, change []byte) {
	distance := r.Len() - base
	r.head(plumbing.OFSDeltaObject, len(change))
	digits := []byte{byte(distance & 0x7f)}
	for distance >>= 7; distance > 0; distance >>= 7 {
		distance--
		digits = append([]byte{byte(distance&0x7f) | 0x80}, digits...)
	}
	r.Write(digits)
	r.packed(change)
}

func (r *raw) sealed() *bytes.Buffer {
	sum := sha1.Sum(r.Bytes())
	r.Write(sum[:])
	return &r.Buffer
}

// copies is a change that takes the whole base so many times.
func copies(base, times int) []byte {
	change := binary.AppendUvarint(nil, uint64(base))
	change = binary.AppendUvarint(change, uint64(base*times))
	for range times {
		change = append(change, 0x80|0x10|0x20, byte(base), byte(base>>8)) // copy from 0, two bytes of size
	}
	return change
}

var small = Limits{Packed: 1 << 20, Total: 1 << 20, Object: 100_000, Objects: 100}

func TestAPackIsReadWithItsDifferences(t *testing.T) {
	t.Parallel()
	base := strings.Repeat("base ", 10)
	hash := plumbing.ComputeHash(plumbing.BlobObject, []byte(base))
	twice := plumbing.ComputeHash(plumbing.BlobObject, []byte(base+base))
	r := newRaw(4)
	r.refDelta(twice, copies(2*len(base), 2)) // before its base, which itself is a difference
	at := r.object(plumbing.BlobObject, base)
	r.refDelta(hash, copies(len(base), 2))
	r.offsetDelta(at, copies(len(base), 3))
	objects, err := readPack(r.sealed(), small)
	if err != nil {
		t.Fatal(err)
	}
	for _, times := range []int{1, 2, 3, 4} {
		want := strings.Repeat(base, times)
		if o := objects[plumbing.ComputeHash(plumbing.BlobObject, []byte(want))]; string(o.content) != want || o.kind != plumbing.BlobObject {
			t.Errorf("%d times the base is %q", times, o.content)
		}
	}
}

func TestHostilePacksAreRefusedBeforeTheyGrow(t *testing.T) {
	t.Parallel()
	base := strings.Repeat("x", 60_000)
	hash := plumbing.ComputeHash(plumbing.BlobObject, []byte(base))
	tests := map[string]struct {
		pack func() *bytes.Buffer
		kind warpket.Kind
	}{
		"nothing":                {func() *bytes.Buffer { return &bytes.Buffer{} }, warpket.Malformed},
		"no pack":                {func() *bytes.Buffer { return bytes.NewBufferString(strings.Repeat("PUCK", 100)) }, warpket.Malformed},
		"more objects than said": {func() *bytes.Buffer { return newRaw(4_000_000_000).sealed() }, warpket.TooLarge},
		"fewer objects than said": {func() *bytes.Buffer {
			r := newRaw(2)
			r.object(plumbing.BlobObject, "x")
			return r.sealed()
		}, warpket.Malformed},
		"an object that says a huge size": {func() *bytes.Buffer {
			r := newRaw(1)
			r.head(plumbing.BlobObject, 1<<40)
			r.packed([]byte("x"))
			return r.sealed()
		}, warpket.TooLarge},
		"an object that grows beyond what it says": {func() *bytes.Buffer {
			r := newRaw(1)
			r.head(plumbing.BlobObject, 10)
			r.packed(make([]byte, 10<<20))
			return r.sealed()
		}, warpket.Malformed},
		"an object that is shorter than it says": {func() *bytes.Buffer {
			r := newRaw(1)
			r.head(plumbing.BlobObject, 10)
			r.packed([]byte("x"))
			return r.sealed()
		}, warpket.Malformed},
		"objects that are too many bytes together": {func() *bytes.Buffer {
			r := newRaw(20)
			for range 20 {
				r.object(plumbing.BlobObject, base)
			}
			return r.sealed()
		}, warpket.TooLarge},
		"a difference that makes a huge object": {func() *bytes.Buffer {
			r := newRaw(2)
			r.object(plumbing.BlobObject, base)
			r.refDelta(hash, copies(len(base), 1000))
			return r.sealed()
		}, warpket.TooLarge},
		"differences that are too many bytes together": {func() *bytes.Buffer {
			r := newRaw(50)
			at := r.object(plumbing.BlobObject, base)
			for range 49 {
				r.offsetDelta(at, copies(len(base), 1))
			}
			return r.sealed()
		}, warpket.TooLarge},
		"a difference of nothing": {func() *bytes.Buffer {
			r := newRaw(2)
			r.object(plumbing.BlobObject, base)
			r.refDelta(hash, nil)
			return r.sealed()
		}, warpket.Malformed},
		"a difference that says another base": {func() *bytes.Buffer {
			r := newRaw(2)
			r.object(plumbing.BlobObject, base)
			r.refDelta(hash, copies(5, 1))
			return r.sealed()
		}, warpket.Malformed},
		"a difference from what is not there": {func() *bytes.Buffer {
			r := newRaw(1)
			r.refDelta(hash, copies(5, 1))
			return r.sealed()
		}, warpket.Malformed},
		"a difference from itself": {func() *bytes.Buffer {
			r := newRaw(1)
			r.offsetDelta(r.Len(), copies(5, 1))
			return r.sealed()
		}, warpket.Malformed},
		"an object of no kind": {func() *bytes.Buffer {
			r := newRaw(1)
			r.object(5, "x")
			return r.sealed()
		}, warpket.Malformed},
		"a wrong checksum": {func() *bytes.Buffer {
			r := newRaw(1)
			r.object(plumbing.BlobObject, "x")
			b := r.sealed()
			b.Bytes()[b.Len()-1] ^= 1
			return b
		}, warpket.Malformed},
		"a pack that does not end": {func() *bytes.Buffer {
			r := newRaw(1)
			r.head(plumbing.BlobObject, 10)
			r.Write(make([]byte, 2<<20))
			return &r.Buffer
		}, warpket.Malformed},
	}
	for name, test := range tests {
		_, err := readPack(test.pack(), small)
		if got := warpket.KindOf(err); got != test.kind {
			t.Errorf("%s: %v, which is %s", name, err, got)
		}
	}
	if _, err := readPack(bytes.NewReader(append(newRaw(100).Bytes(), make([]byte, 4<<20)...)), Limits{Packed: 10, Total: 1, Object: 1, Objects: 100}); warpket.KindOf(err) != warpket.TooLarge {
		t.Errorf("a pack over its bound: %v", err)
	}
}

func FuzzPack(f *testing.F) {
	r := newRaw(2)
	at := r.object(plumbing.BlobObject, "base base base")
	r.offsetDelta(at, copies(14, 2))
	f.Add(r.sealed().Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		objects, err := readPack(bytes.NewReader(b), small)
		if err != nil {
			if _, ok := errors.AsType[*warpket.Error](err); !ok {
				t.Errorf("not one of ours: %v", err)
			}
			return
		}
		for h, o := range objects {
			if plumbing.ComputeHash(o.kind, o.content) != h {
				t.Errorf("%s holds other bytes", h)
			}
		}
	})
}
