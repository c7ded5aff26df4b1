package warpket_test

import (
	"slices"
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

func TestTextsAreHeldAgainstConditions(t *testing.T) {
	t.Parallel()
	all := []warpket.Op{warpket.In, warpket.Nin, warpket.Eq, warpket.Neq, warpket.Gt, warpket.Gte, warpket.Lt, warpket.Lte, warpket.Has}
	for condition, fits := range map[string][]string{
		"":         {"", "a", "ab", "10"},
		"a":        {"a"},
		"neq:a":    {"", "10", "ab"},
		"in:a,10":  {"a", "10"},
		"nin:a,10": {"", "ab"},
		"has:a":    {"a", "ab"},
		"gt:9":     {"10", "a", "ab"}, // numbers as numbers, texts as texts
		"gte:10":   {"10", "a", "ab"},
		"lt:ab":    {"", "a", "10"},
		"lte:ab":   {"", "a", "10", "ab"},
	} {
		c, err := warpket.ParseCondition("field", condition, all...)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"", "a", "ab", "10"} {
			if c.Holds(text) != slices.Contains(fits, text) {
				t.Errorf("%q fits %q: %t", text, condition, c.Holds(text))
			}
		}
	}
}
