package warpket_test

import (
	"testing"

	"github.com/warpket/warpket"
)

func TestAnIsolationSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	for want, i := range map[string]warpket.Isolation{
		"none":                    warpket.NoIsolation,
		"gvisor":                  {Kind: "gvisor", UID: "own"},
		"namespaces (uid shared)": {Kind: "namespaces", UID: "shared"},
		"namespaces (uid shared; not enforced: cpu, memory)": {Kind: "namespaces", UID: "shared", Unenforced: []string{"cpu", "memory"}},
		"namespaces (not enforced: memory)":                  {Kind: "namespaces", UID: "own", Unenforced: []string{"memory"}},
	} {
		if got := i.String(); got != want || i.Complete() != (want == "gvisor") {
			t.Errorf("%q, complete %t; want %q", got, i.Complete(), want)
		}
	}
}
