package api

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// MatchInput lets a caller change only what it has seen. It is exported for
// huma, which reads no other embedded fields.
type MatchInput struct {
	IfMatch string `header:"If-Match" maxLength:"500" doc:"ETag of what you have read: the change is refused with 412 if it has changed since. Leave it out, or send *, to change it whatever it is"`
}

// check refuses a change of what is not as the caller has seen it. It belongs
// where the row is locked.
func (m MatchInput) check(what string, updated time.Time) error {
	return m.checkTag(what, etag(updated))
}

func (m MatchInput) checkTag(what, now string) error {
	if m.IfMatch == "" {
		return nil
	}
	for tag := range strings.SplitSeq(m.IfMatch, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == now {
			return nil
		}
	}
	return warpket.Errorf(warpket.Stale, "the %s has changed since you read it, its ETag is %s now: read it again and decide", what, now).At("header.If-Match")
}

// names reports whether it names what the caller has seen, instead of anything.
func (m MatchInput) names() bool {
	return m.IfMatch != "" && !slices.Contains(strings.FieldsFunc(m.IfMatch, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }), "*")
}

// etag is the entity tag of what last changed at a time (RFC 9110, 8.8.3).
func etag(updated time.Time) string {
	return `"` + strconv.FormatInt(updated.UnixMicro(), 36) + `"`
}
