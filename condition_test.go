package warpket_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestParseCondition(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want warpket.Condition
		kind warpket.Kind
	}{
		"nothing lets everything through":         {"", warpket.Condition{}, ""},
		"a plain value is compared as it is":      {"failed", warpket.Condition{Op: warpket.Eq, Values: []string{"failed"}}, ""},
		"an operator comes before a colon":        {"neq:failed", warpket.Condition{Op: warpket.Neq, Values: []string{"failed"}}, ""},
		"in takes several values":                 {"in:failed,lost", warpket.Condition{Op: warpket.In, Values: []string{"failed", "lost"}}, ""},
		"a colon within a value is part of it":    {"12:30", warpket.Condition{Op: warpket.Eq, Values: []string{"12:30"}}, ""},
		"an operator that the field has not":      {"has:x", warpket.Condition{}, warpket.Invalid},
		"more values than anyone needs":           {"in:" + strings.Repeat(",", 100), warpket.Condition{}, warpket.Invalid},
		"a character that no text in a row holds": {"a\x00", warpket.Condition{}, warpket.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := warpket.ParseCondition("status", tt.text, warpket.In, warpket.Eq, warpket.Neq)
			if warpket.KindOf(err) != tt.kind {
				t.Fatalf("the error is %v", err)
			}
			if diff := cmp.Diff(tt.want, c); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}
