package warpket_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestPatternsAreReadAsOtherCronsDo(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern, zone, after string
		want                 []string
	}{
		"every minute":                     {"* * * * *", "", "2026-11-27T10:00:30Z", []string{"2026-11-27T10:01:00Z", "2026-11-27T10:02:00Z"}},
		"a time on its minute is over":     {"0 10 * * *", "", "2026-11-27T10:00:00Z", []string{"2026-11-28T10:00:00Z"}},
		"names and ranges":                 {"30 8 * JAN-mar Mon-Fri", "UTC", "2026-12-30T00:00:00Z", []string{"2027-01-01T08:30:00Z", "2027-01-04T08:30:00Z"}},
		"steps, also from a value":         {"50/5 */12 * * *", "", "2026-11-27T00:00:00Z", []string{"2026-11-27T00:50:00Z", "2026-11-27T00:55:00Z", "2026-11-27T12:50:00Z"}},
		"7 is Sunday":                      {"0 0 * * 7", "", "2026-11-27T00:00:00Z", []string{"2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"}},
		"5-7 ends on Sunday":               {"0 0 * * 5-7", "", "2026-11-27T00:00:00Z", []string{"2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z", "2026-12-04T00:00:00Z"}},
		"either day":                       {"0 0 13 * FRI", "", "2026-11-10T00:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"}},
		"words":                            {"@Weekly", "", "2026-11-27T00:00:00Z", []string{"2026-11-29T00:00:00Z"}},
		"leap years":                       {"0 0 29 2 *", "", "2026-11-27T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		"a zone":                           {"0 9 * * *", "Asia/Tokyo", "2026-11-27T00:00:00Z", []string{"2026-11-28T00:00:00Z"}},
		"what daylight saving skips":       {"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", []string{"2026-03-09T06:30:00Z"}},
		"what daylight saving repeats":     {"30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", []string{"2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"}},
		"a day whose midnight was skipped": {"15 * 25 4 *", "Africa/Cairo", "2025-04-24T21:00:00Z", []string{"2025-04-24T22:15:00Z"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := warpket.ParseCron(tt.pattern, tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range tt.want {
				at = c.Next(at)
				got = append(got, at.Format(time.RFC3339))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPatternsThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1- * * * *", "-1 * * * *", "a * * * *",
		", * * * *", "* * * MON *", "1/ * * * *", "+1 * * * *", "@every 1s", "@reboot", "TZ=UTC * * * * *", "TZ=0", "0 0 30 2 *", "99999999999999999999 * * * *", "* * * * SUNDAY",
	} {
		if _, err := warpket.ParseCron(pattern, ""); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, zone := range []string{"Local", "Mars/Olympus", "../../etc/passwd", "/etc/localtime"} {
		if _, err := warpket.ParseCron("* * * * *", zone); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%q: %v", zone, err)
		}
	}
}

func TestRangesOfAFieldHoldItsValues(t *testing.T) {
	t.Parallel()
	c, err := warpket.ParseCron("0-59 0,1,2,23 31 1,12 SUN,6", "")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]warpket.CronRange{{{0, 59}}, {{0, 2}, {23, 23}}, {{31, 31}}, {{1, 1}, {12, 12}}, {{0, 0}, {6, 6}}}
	for i := range want {
		if diff := cmp.Diff(want[i], c.Ranges(i)); diff != "" {
			t.Error(diff)
		}
	}
}
