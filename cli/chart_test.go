package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	client "github.com/warpket/warpket/clients/go"
)

func TestAHistogramShowsHowOftenEachOutcomeWas(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		counts map[string]float64
		width  int
		want   string
	}{
		"two outcomes": {map[string]float64{"11": 500, "00": 524}, 40, `
  00 ██████████████████████ 524  51.2 %
  11 █████████████████████  500  48.8 %
`},
		"a rare one has a sliver": {map[string]float64{"0": 990, "1": 10}, 40, `
  0 ███████████████████████ 990  99.0 %
  1 ▎                        10   1.0 %
`},
		"a narrow terminal keeps a bar": {map[string]float64{"0101010101010101": 1}, 10, `
  0101010101010101 █ 1 100.0 %
`},
		"nothing was measured": {map[string]float64{"0": 0}, 40, "\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			(&screen{Writer: &out, plain: true, width: test.width}).histogram(test.counts)
			if diff := cmp.Diff(test.want, "\n"+out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALongHistogramShowsTheMostFrequentOutcomes(t *testing.T) {
	t.Parallel()
	many := map[string]float64{}
	for i := range 100 {
		many[fmt.Sprintf("%07b", i)] = float64(i + 1)
	}
	var out bytes.Buffer
	(&screen{Writer: &out, plain: true, width: 80}).histogram(many)
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != maxBars+1 || !strings.Contains(lines[0], "1100011 ") || lines[maxBars] != "  and 68 more" {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestOnlyNumbersAreCounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`{"counts":{"00":1,"11":2.5}}`: 2, `{"counts":{"00":-1}}`: 0, `{"counts":{"00":"x"}}`: 0, `{"counts":[1]}`: 0, `[1]`: 0, `null`: 0, `{}`: 0,
	} {
		if got := len(counts([]byte(text))); got != want {
			t.Errorf("%s has %d, not %d", text, got, want)
		}
	}
}

func TestAWaterfallShowsThePhasesInTurn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	(&screen{Writer: &out, plain: true, width: 80}).waterfall(client.Timings{QueuedMs: 2, PlacedMs: 1, StartedMs: 1, RanMs: 3, RecordedMs: 1, TotalMs: 8})
	want := `
  queued      2.00 ms  ███████                       until it was sent to its node
  placed      1.00 ms         ███▌                   until the node had admitted it
  started     1.00 ms            ███▌                until its worker had it
  ran         3.00 ms                ██████████▌     the handler's own time
  recorded    1.00 ms                          ███▌  until its record was written
  total       8.00 ms
`
	if diff := cmp.Diff(want, "\n"+out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNothingSteersTheTerminal(t *testing.T) {
	t.Parallel()
	if got := safe("a\x1b[2Jb\u009bc\nd"); strings.ContainsAny(got, "\x1b\u009b\n") {
		t.Errorf("got %q", got)
	}
}
