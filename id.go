package warpket

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// ID names one thing: a UUID of version 7 (RFC 9562), so that IDs sort by the
// time they were made. Its text form is always lower case.
type ID string

// NewID makes an ID for the time now.
func NewID(now time.Time) ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return uuid7(now, b)
}

// FirstIDAt is the smallest ID that can have been made at t: a bound for ranges.
func FirstIDAt(t time.Time) ID {
	if t.UnixMilli() < 0 {
		t = time.UnixMilli(0) // nothing is older
	}
	return uuid7(t, [16]byte{})
}

func uuid7(t time.Time, b [16]byte) ID {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli())) // times before 1970 do not occur
	copy(b[:6], ms[2:])
	return uuid(b, 7)
}

// uuid marks an ID as of a version of RFC 9562.
func uuid(b [16]byte, version byte) ID {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return ID(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}

// ParseID reads an ID from text. What is no ID names nothing, so the error is
// NotFound; what says the thing that was looked for.
func ParseID(what, s string) (ID, error) {
	s = strings.ToLower(s)
	ok := len(s) == 36
	for i := 0; ok && i < len(s); i++ {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			ok = c == '-'
		default:
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		}
	}
	if !ok {
		return "", Errorf(NotFound, "there is no %s %q", what, s)
	}
	return ID(s), nil
}

// Time is when the ID was made, to the millisecond. It is the zero time for
// an ID that is not of version 7.
func (id ID) Time() time.Time {
	b, err := hex.DecodeString(strings.ReplaceAll(string(id), "-", ""))
	if err != nil || len(b) != 16 || b[6]>>4 != 7 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(append([]byte{0, 0}, b[:6]...)))).UTC() //nolint:gosec // 48 bits
}
