package warpket_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func TestAnEnvironmentIsCheckedAgainstItsBounds(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprintf("V%d", i)] = ""
	}
	tests := map[string]struct {
		variables, secrets map[string]string
		want               warpket.Kind
		says               string
	}{
		"an empty one":                    {},
		"variables and secrets":           {variables: map[string]string{"A": "1", "_b2": "x\ny"}, secrets: map[string]string{"TOKEN": "token"}},
		"too many":                        {variables: many, want: warpket.Invalid, says: "100"},
		"a name with a dash":              {variables: map[string]string{"a-b": ""}, want: warpket.Invalid, says: `"a-b"`},
		"a name with a digit first":       {secrets: map[string]string{"1A": "token"}, want: warpket.Invalid, says: `"1A"`},
		"a name with an equals sign":      {variables: map[string]string{"A=B": ""}, want: warpket.Invalid},
		"the same name twice":             {variables: map[string]string{"A": "1"}, secrets: map[string]string{"A": "token"}, want: warpket.Invalid, says: "twice"},
		"names that are the worker's own": {variables: map[string]string{"PATH": "", "HOME": "", "OK": ""}, secrets: map[string]string{"LD_PRELOAD": "token", "PYTHONPATH": "token"}, want: warpket.Invalid, says: "HOME, PATH, LD_PRELOAD, PYTHONPATH"},
		"ours":                            {variables: map[string]string{"WARPKET_TOKEN": ""}, want: warpket.Invalid, says: "WARPKET_TOKEN"},
		"a NUL":                           {variables: map[string]string{"A": "a\x00b"}, want: warpket.Invalid, says: "NUL"},
		"as large as may be":              {variables: map[string]string{"A": strings.Repeat("x", 64<<10-5)}, secrets: map[string]string{"BB": "large"}},
		"a byte too large":                {variables: map[string]string{"A": strings.Repeat("x", 64<<10-4)}, secrets: map[string]string{"BB": "large"}, want: warpket.Invalid, says: "128 KiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := warpket.Environment{Variables: test.variables, Secrets: test.secrets}
			err := e.Check(map[string]int{"large": 64<<10 - 2, "unused": 1 << 20})
			if warpket.KindOf(err) != test.want || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q that says %q", err, test.want, test.says)
			}
		})
	}
}

func TestASecretIsCheckedWithoutTellingItsValue(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name, value string
		want        warpket.Kind
	}{
		"a plain one":        {"API_key_2", "canary", ""},
		"an empty value":     {"A", "", ""},
		"as large as may be": {"A", strings.Repeat("x", 64<<10), ""},
		"too large":          {"A", "canary" + strings.Repeat("x", 64<<10), warpket.TooLarge},
		"a NUL":              {"A", "canary\x00", warpket.Invalid},
		"no name":            {"", "canary", warpket.Invalid},
		"a digit first":      {"1A", "canary", warpket.Invalid},
		"a long name":        {strings.Repeat("A", 65), "canary", warpket.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := warpket.CheckSecret(test.name, test.value)
			if warpket.KindOf(err) != test.want || err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
