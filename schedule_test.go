package warpket_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

var midday = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func at(offset time.Duration) *time.Time { return new(midday.Add(offset)) }

func TestASchedulesTimes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern string
		first   *time.Time
		count   *int
		fired   []time.Duration // one after the other, in time
		next    *time.Time
		status  warpket.ScheduleStatus
	}{
		"a pattern begins at once":                {"*/10 * * * *", nil, nil, nil, at(10 * time.Minute), warpket.ScheduleRunning},
		"a first time comes before the pattern":   {"*/10 * * * *", at(15*time.Minute + time.Second), nil, nil, at(15*time.Minute + time.Second), warpket.ScheduleRunning},
		"after the first time comes the pattern":  {"*/10 * * * *", at(15*time.Minute + time.Second), nil, []time.Duration{15*time.Minute + time.Second}, at(20 * time.Minute), warpket.ScheduleRunning},
		"without a pattern it fires once":         {"", at(time.Second), nil, []time.Duration{time.Second}, nil, warpket.ScheduleDone},
		"a count comes down":                      {"* * * * *", nil, new(2), []time.Duration{time.Minute}, at(2 * time.Minute), warpket.ScheduleRunning},
		"a count that has come down is the end":   {"* * * * *", nil, new(2), []time.Duration{time.Minute, 2 * time.Minute}, nil, warpket.ScheduleDone},
		"a time that comes again does nothing":    {"* * * * *", nil, new(2), []time.Duration{time.Minute, time.Minute}, at(2 * time.Minute), warpket.ScheduleRunning},
		"a time before the next one does nothing": {"*/10 * * * *", nil, new(2), []time.Duration{time.Minute}, at(10 * time.Minute), warpket.ScheduleRunning},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := warpket.Schedule{Pattern: tt.pattern, FirstTime: tt.first, Count: tt.count, Status: warpket.ScheduleRunning}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			if err := s.Begin(midday); err != nil {
				t.Fatal(err)
			}
			for _, offset := range tt.fired {
				if s.Due(*at(offset)) {
					s.Fired(*at(offset), *at(offset), "x", "")
				}
			}
			if diff := cmp.Diff(tt.next, s.NextTime); diff != "" || s.Status != tt.status {
				t.Errorf("%s %s", s.Status, diff)
			}
		})
	}
}

func TestAFiringThatFailedDoesNotCount(t *testing.T) {
	t.Parallel()
	s := warpket.Schedule{Pattern: "* * * * *", Count: new(1), Status: warpket.ScheduleRunning}
	if err := s.Begin(midday); err != nil {
		t.Fatal(err)
	}
	s.Fired(*at(time.Minute), *at(time.Minute), "", "there is no version 3")
	if *s.Count != 1 || s.Status != warpket.ScheduleRunning || s.LastError == "" || !s.Due(*at(2 * time.Minute)) {
		t.Errorf("got %+v", s)
	}
}

func TestWhatWasMissedForLongIsLeftOut(t *testing.T) {
	t.Parallel()
	s := warpket.Schedule{Pattern: "* * * * *", Status: warpket.ScheduleRunning}
	if err := s.Begin(midday); err != nil {
		t.Fatal(err)
	}
	now := *at(time.Hour)
	if !s.Late(*at(time.Minute), now) || s.Late(*at(57 * time.Minute), now) {
		t.Error("what is late is not told from what is not")
	}
	s.Fired(*at(time.Minute), now, "", "missed")
	if diff := cmp.Diff(at(61*time.Minute), s.NextTime); diff != "" {
		t.Error(diff)
	}
	once := warpket.Schedule{FirstTime: at(0)}
	if once.Late(midday, now) {
		t.Error("what fires once is done late")
	}
}

func TestStatusesOfSchedules(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to warpket.ScheduleStatus
		want     warpket.Kind
	}{
		"pause":                {warpket.ScheduleRunning, warpket.SchedulePaused, ""},
		"resume":               {warpket.SchedulePaused, warpket.ScheduleRunning, ""},
		"cancel":               {warpket.SchedulePaused, warpket.ScheduleCancelled, ""},
		"twice the same":       {warpket.ScheduleDone, warpket.ScheduleDone, ""},
		"done is the end":      {warpket.ScheduleDone, warpket.ScheduleRunning, warpket.Conflict},
		"cancelled is the end": {warpket.ScheduleCancelled, warpket.SchedulePaused, warpket.Conflict},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := warpket.Schedule{Pattern: "* * * * *", Status: tt.from}
			if err := s.Advance(tt.to, midday); warpket.KindOf(err) != tt.want {
				t.Errorf("got %v", err)
			}
			if (s.NextTime != nil) != (s.Status == warpket.ScheduleRunning && tt.from != tt.to) {
				t.Errorf("%s, next %v", s.Status, s.NextTime)
			}
		})
	}
	gone := warpket.Schedule{FirstTime: at(-time.Minute), Status: warpket.SchedulePaused}
	if err := gone.Advance(warpket.ScheduleRunning, midday); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("resuming what has passed: %v", err)
	}
}

func TestSchedulesThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]warpket.Schedule{
		"never":                    {},
		"once, twice":              {FirstTime: at(0), Count: new(2)},
		"a zone without a pattern": {FirstTime: at(0), TimeZone: "UTC"},
		"no pattern":               {Pattern: "often"},
		"a NUL in the name":        {Pattern: "@daily", Name: "a\x00"},
		"a NUL in what it says":    {Pattern: "@daily", Description: "\x00"},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := s.Check(); warpket.KindOf(err) != warpket.Invalid {
				t.Errorf("got %v", err)
			}
		})
	}
	var s warpket.Schedule
	for _, first := range []time.Time{midday, midday.Add(-time.Nanosecond), midday.AddDate(100, 0, 0)} {
		if err := s.SetFirst(first, midday); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%s: %v", first, err)
		}
	}
	if err := s.SetFirst(midday.Add(time.Millisecond), midday); err != nil || !s.FirstTime.Equal(midday.Add(time.Second)) {
		t.Errorf("%v %v", s.FirstTime, err)
	}
}
