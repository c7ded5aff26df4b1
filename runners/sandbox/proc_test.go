package sandbox_test

import (
	"os"
	"strings"
	"testing"

	"github.com/warpket/warpket/runners/sandbox"
)

// What a driver says of devices stands in /proc, beside much that is not for
// functions.
func TestOfProcThereIsWhatWasListed(t *testing.T) {
	t.Parallel()
	launcher := launchers(t)["namespaces"]
	for name, listed := range map[string][]string{
		"nothing":             nil,
		"a file":              {"/proc/devices"},
		"a file in folders":   {"/proc/sys/kernel/ostype"},
		"several of a folder": {"/proc/devices", "/proc/sys/kernel/ostype", "/proc/sys/kernel/random/poolsize", "/proc/sys/vm/swappiness"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := shell(t, `exec 2>/dev/null; cat /proc/devices; find /proc/sys -type f -exec cat {} +; true > /proc/sys/kernel/ostype || touch /proc/sys/x || echo closed`)
			spec.ReadOnly = listed
			_, got, exit := run(t, launcher, spec)
			if exit != (sandbox.Exit{}) {
				t.Fatal(exit)
			}
			var want strings.Builder
			for _, file := range listed {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				want.Write(b)
			}
			if want.WriteString("closed\n"); !sameLines(got, want.String()) {
				t.Errorf("it sees\n%s\nnot\n%s", got, want.String())
			}
		})
	}
}

// sameLines compares what is in no order.
func sameLines(a, b string) bool {
	counts := map[string]int{}
	for line := range strings.Lines(a) {
		counts[line]++
	}
	for line := range strings.Lines(b) {
		counts[line]--
	}
	for _, n := range counts {
		if n != 0 {
			return false
		}
	}
	return true
}

// CUDA's library gives its threads names by these files, and without that says
// that the operating system has failed.
func TestAProgramWithDevicesNamesItsThreads(t *testing.T) {
	t.Parallel()
	launcher := launchers(t)["namespaces"]
	for name, tt := range map[string]struct {
		devices []string
		want    string
	}{
		"with devices":    {[]string{"/dev/null"}, "named\n"},
		"without devices": {nil, "sh\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := shell(t, `exec 2>/dev/null; printf named > /proc/$$/task/$$/comm; cat /proc/$$/comm; true`)
			spec.Devices = tt.devices
			if _, got, exit := run(t, launcher, spec); !exit.OK() || got != tt.want {
				t.Errorf("%s: it is called %q", exit, got)
			}
		})
	}
}
