package cli

import (
	"strings"
	"testing"
)

func TestNodesAndDevicesAreShownAsBars(t *testing.T) {
	t.Parallel()
	const (
		gpu   = `{"id":"GPU-1","node":"alpha","kind":"gpu","name":"H100","memory":85899345920,"leased":true,"free":false,"load":{"memoryUsed":42949672960,"memoryFree":42949672960,"utilisation":75,"temperature":61,"power":512.4,"processes":1},"holder":{"slotId":"s","projectId":"p","functionId":"f","functionName":"bell"}}`
		slice = `{"id":"MIG-1","node":"alpha","kind":"gpu","name":"H100","migProfile":"1g.10gb","parentId":"GPU-2","memory":10737418240,"leased":false,"free":true,"simulated":true}`
		cut   = `{"id":"GPU-2","node":"alpha","kind":"gpu","name":"H100","migEnabled":true,"memory":85899345920,"leased":false,"free":false,"simulated":true}`
		bad   = `{"id":"GPU-3","node":"alpha","kind":"gpu","name":"H100","memory":85899345920,"leased":false,"free":false,"fault":"Xid 79"}`
		node  = `{"name":"alpha","status":"draining","cpu":8000,"cpuLeased":2000,"memory":8589934592,"memoryLeased":8589934592,"slots":3,"pythons":["3.11"],"isolation":{"kind":"namespaces"},"devices":[` + gpu + `,` + bad + `,` + cut + `,` + slice + `]}`
	)
	s := newAPI(t)
	s.on("GET /v1/nodes", 200, list(node))
	s.on("GET /v1/devices", 200, list(gpu, cut, slice, bad))
	for what, lines := range map[string][]string{
		"nodes": {"alpha  draining  ██▌░░░░░░░  2 of 8  ██████████  8.0 GiB of 8.0 GiB  3  ", "0 of 2 free: H100, H100 1g.10gb (simulated)"},
		"devices": {
			"held           █████░░░░░  40.0 GiB of 80.0 GiB  ███████▌░░  75 %  61 °C  512 W  bell", "free", "in slices", "fault: Xid 79", "H100 1g.10gb (simulated)",
		},
	} {
		for _, args := range [][]string{{what}, {"list", what}} {
			got := s.command(t, args...)
			for _, line := range lines {
				if want := strings.Fields(line); got.code != 0 || !strings.Contains(strings.Join(strings.Fields(got.out), " "), strings.Join(want, " ")) {
					t.Errorf("%v: exit %d, without %q:\n%s", args, got.code, line, got.out)
				}
			}
		}
		if got := s.command(t, what, "--json"); got.code != 0 || !strings.HasPrefix(got.out, `{"items":[{`) {
			t.Errorf("%s --json: exit %d\n%s", what, got.code, got.out)
		}
		if got := s.command(t, what, "--limit", "0"); got.code != 2 {
			t.Errorf("%s --limit 0: exit %d", what, got.code)
		}
	}
}
