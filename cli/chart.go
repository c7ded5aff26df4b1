package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	client "github.com/warpket/warpket/clients/go"
)

// maxBars is how many outcomes a histogram shows.
const maxBars = 32

// bar is a bar of a length in cells, drawn in eighths of a cell.
func bar(cells float64) string {
	eighths := int(cells*8 + 0.5)
	full, rest := eighths/8, eighths%8
	out := strings.Repeat("█", full)
	if rest > 0 {
		out += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return out
}

// counts are the outcomes of a result, if it has some: an object whose
// "counts" are numbers.
func counts(result json.RawMessage) map[string]float64 {
	var r struct {
		Counts map[string]float64 `json:"counts"`
	}
	if json.Unmarshal(result, &r) != nil {
		return nil
	}
	for _, n := range r.Counts {
		if n < 0 {
			return nil
		}
	}
	return r.Counts
}

// histogram draws how often each outcome was measured, in the order of their
// names; with more than fit, the most frequent ones.
func (s *screen) histogram(counts map[string]float64) {
	outcomes := slices.Sorted(maps.Keys(counts))
	left := 0
	if len(outcomes) > maxBars {
		slices.SortStableFunc(outcomes, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
		left = len(outcomes) - maxBars
		outcomes = outcomes[:maxBars]
	}
	var total, largest float64
	for _, n := range counts {
		total, largest = total+n, max(largest, n)
	}
	if largest == 0 {
		return
	}
	names, numbers := 0, 0
	for _, o := range outcomes {
		names, numbers = max(names, utf8.RuneCountInString(safe(o))), max(numbers, len(number(counts[o])))
	}
	room := max(1, min(60, s.width-names-numbers-len("    100.0 %")-2))
	for _, o := range outcomes {
		b := bar(counts[o] / largest * float64(room))
		pad := strings.Repeat(" ", max(0, room-utf8.RuneCountInString(b)))
		s.printf("  %-*s %s%s %*s %5.1f %%", names, safe(o), s.paint(busy, b), pad, numbers, number(counts[o]), 100*counts[o]/total)
	}
	if left > 0 {
		s.printf("  and %d more", left)
	}
}

func number(n float64) string { return fmt.Sprintf("%g", n) }

// waterfall draws the phases of an execution one after the other.
func (s *screen) waterfall(t client.Timings) {
	phases := []struct {
		name string
		ms   float64
		what string
	}{
		{"queued", t.QueuedMs, "until it was sent to its node"},
		{"placed", t.PlacedMs, "until the node had admitted it"},
		{"started", t.StartedMs, "until its worker had it"},
		{"ran", t.RanMs, "the handler's own time"},
		{"recorded", t.RecordedMs, "until its record was written"},
	}
	const room = 28
	total := max(t.TotalMs, 0.001)
	var before float64
	for _, p := range phases {
		offset := min(room-1, int(before/total*room))
		b := bar(min(max(p.ms/total*room, 0.125), float64(room-offset)))
		before += p.ms
		pad := strings.Repeat(" ", max(0, room-offset-utf8.RuneCountInString(b)))
		s.printf("  %-8s %10s  %s%s%s  %s", p.name, exact(p.ms), strings.Repeat(" ", offset), s.paint(busy, b), pad, s.paint(quiet, p.what))
	}
	s.printf("  %-8s %10s", "total", exact(t.TotalMs))
}

func exact(ms float64) string {
	if ms < 10*float64(time.Second/time.Millisecond) {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return duration(milliseconds(ms))
}
