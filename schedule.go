package warpket

import (
	"cmp"
	"slices"
	"time"
)

// Bounds of schedules.
const (
	MaxScheduleInput = MaxInline // bytes
	MaxCount         = 1_000_000_000
	CatchUp          = 5 * time.Minute // how late what a pattern asks for may still be done; later, it is left out
)

// Schedule executes a function at times to come.
type Schedule struct {
	ID           ID
	ProjectID    ID
	FunctionID   ID
	FunctionName string
	Name         string
	Version      int    // number of the version; 0 for the newest, or the draft
	Draft        bool   // the function's draft instead of a version
	Alias        string // name of the alias that says which version, when it fires; empty for none
	Input        []byte // JSON
	Description  string // of its executions

	Pattern   string     // see ParseCron; empty when it fires once, at its first time
	TimeZone  string     // of the pattern
	FirstTime *time.Time // it fires then, and not before; nil: as the pattern says
	Count     *int       // how often it fires yet; nil: without end
	Status    ScheduleStatus
	NextTime  *time.Time // nil unless it runs

	LastTime        *time.Time // for which time it fired last, or was to
	LastExecutionID ID         // what it has then created
	LastError       string     // why it has then created nothing; empty if it has

	CreatedDate time.Time
	UpdatedDate time.Time
}

// ScheduleStatus says whether a schedule fires.
type ScheduleStatus string

// The statuses of a schedule.
const (
	ScheduleRunning   ScheduleStatus = "running"
	SchedulePaused    ScheduleStatus = "paused"
	ScheduleDone      ScheduleStatus = "done"
	ScheduleCancelled ScheduleStatus = "cancelled"
)

// Final reports whether a schedule in this status never fires again.
func (s ScheduleStatus) Final() bool { return s == ScheduleDone || s == ScheduleCancelled }

var afterSchedule = map[ScheduleStatus][]ScheduleStatus{
	ScheduleRunning: {SchedulePaused, ScheduleDone, ScheduleCancelled},
	SchedulePaused:  {ScheduleRunning, ScheduleCancelled},
}

// Check reports what is wrong with a schedule that is new or was changed.
func (s Schedule) Check() error {
	if err := cmp.Or(checkText("name", s.Name), CheckDescription(s.Description)); err != nil {
		return err
	}
	switch {
	case s.Alias != "" && (s.Version != 0 || s.Draft):
		return Errorf(Invalid, "an alias says itself which version runs: leave version and draft out, or leave alias out").At("alias")
	case s.Version != 0 && s.Draft:
		return Errorf(Invalid, "version and draft cannot both be given").At("draft")
	}
	if len(s.Input) > MaxScheduleInput {
		return Errorf(TooLarge, "the input has %d bytes; a schedule takes at most %d", len(s.Input), MaxScheduleInput).At("input")
	}
	if s.Pattern == "" {
		switch {
		case s.FirstTime == nil:
			return Errorf(Invalid, "a schedule has a pattern, a first execution time, or both").At("pattern")
		case s.TimeZone != "":
			return Errorf(Invalid, "a time zone is for a pattern; the first execution time has its own offset").At("timeZone")
		case s.Count != nil && *s.Count != 1:
			return Errorf(Invalid, "a schedule without a pattern fires once: leave its count out").At("count")
		}
		return nil
	}
	_, err := ParseCron(s.Pattern, s.TimeZone)
	return err
}

// Begin sets at which time a schedule that was just made or changed fires next.
func (s *Schedule) Begin(now time.Time) error {
	if s.Status != ScheduleRunning {
		s.NextTime = nil
		return nil
	}
	if s.NextTime = s.next(now); s.NextTime == nil {
		return Errorf(Conflict, "its time has passed: give it a new first execution time").At("firstExecutionTime")
	}
	return nil
}

// SetFirst sets the first time, which is to come, to the second.
func (s *Schedule) SetFirst(first, now time.Time) error {
	whole := first.UTC().Truncate(time.Second)
	if whole.Before(first) {
		whole = whole.Add(time.Second)
	}
	if !whole.After(now) || whole.Year() > now.Year()+cronHorizon {
		return Errorf(Invalid, "the first execution time is to come, within %d years: it is %s now", cronHorizon, now.UTC().Format(time.RFC3339)).At("firstExecutionTime")
	}
	s.FirstTime = &whole
	return nil
}

// next is the first time after t at which it fires; nil when there is none.
func (s *Schedule) next(t time.Time) *time.Time {
	if s.FirstTime != nil && t.Before(*s.FirstTime) {
		return s.FirstTime
	}
	if s.Pattern == "" {
		return nil
	}
	c, err := ParseCron(s.Pattern, s.TimeZone)
	if err != nil {
		return nil // of an earlier release that read more
	}
	if at := c.Next(t); !at.IsZero() {
		return &at
	}
	return nil
}

// Advance moves the schedule to a status at time now. Advancing to the status
// it already has does nothing.
func (s *Schedule) Advance(to ScheduleStatus, now time.Time) error {
	if s.Status == to {
		return nil
	}
	if !slices.Contains(afterSchedule[s.Status], to) {
		return Errorf(Conflict, "schedule %s is %s and cannot become %s", s.ID, s.Status, to).At("status")
	}
	s.Status = to
	return s.Begin(now)
}

// Due reports whether it fires for a time that has come. A repetition for the
// same time does not.
func (s *Schedule) Due(at time.Time) bool {
	return s.Status == ScheduleRunning && s.NextTime != nil && !at.Before(*s.NextTime) && (s.LastTime == nil || at.After(*s.LastTime))
}

// Late reports whether it is too late at time now to do what the pattern asks
// for at a time. What fires once is better late than never.
func (s *Schedule) Late(at, now time.Time) bool { return s.Pattern != "" && now.Sub(at) > CatchUp }

// Fired records that it has fired for a time at which it was due: an execution
// was created, or for a reason none. Only executions count down.
func (s *Schedule) Fired(at, now time.Time, execution ID, reason string) {
	nominal := at
	s.LastTime, s.LastExecutionID, s.LastError = &nominal, execution, reason
	if s.Late(at, now) {
		at = now // what was missed with it is left out, too
	}
	s.NextTime = s.next(at)
	if s.Count != nil && execution != "" {
		n := *s.Count - 1
		s.Count = &n
	}
	if s.NextTime == nil || s.Count != nil && *s.Count <= 0 {
		s.Status, s.NextTime = ScheduleDone, nil
	}
}
