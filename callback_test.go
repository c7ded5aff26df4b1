package warpket_test

import (
	"testing"

	"github.com/warpket/warpket"
)

func TestCallbackURLsAreAbsoluteAndCarryNoPassword(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		url  string
		http bool
		want warpket.Kind
	}{
		"https":               {"https://example.com/done?x=1", false, ""},
		"http":                {"http://example.com/done", false, warpket.Invalid},
		"http where allowed":  {"http://127.0.0.1:8080/done", true, ""},
		"another scheme":      {"ftp://example.com/", true, warpket.Invalid},
		"a file":              {"file:///etc/passwd", true, warpket.Invalid},
		"no host":             {"https:///done", true, warpket.Invalid},
		"relative":            {"/done", true, warpket.Invalid},
		"opaque":              {"https:example.com", true, warpket.Invalid},
		"a password":          {"https://u:p@example.com/", true, warpket.Invalid},
		"a fragment":          {"https://example.com/#a", true, warpket.Invalid},
		"a header of its own": {"https://example.com/\r\nX: y", true, warpket.Invalid},
		"nothing":             {"", true, warpket.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := warpket.CheckCallbackURL(tt.url, tt.http); warpket.KindOf(err) != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}
