package warpket

import (
	"math/bits"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that every machine knows the same time zones
)

// Cron is a pattern of times in a time zone. A time is one of them if a clock
// there shows it: what daylight saving skips does not come, and what it repeats
// comes twice.
type Cron struct {
	Fields [5]uint64 // which minutes, hours, days of the month, months and days of the week (0 is Sunday), by their bits
	Zone   *time.Location

	anyDay, anyWeekday bool // a * stood there
}

// The fields of a pattern.
const (
	CronMinute = iota
	CronHour
	CronDay
	CronMonth
	CronWeekday
)

var cronFields = [5]struct {
	name     string
	min, max int
	words    []string // for min, min+1, ...
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{"day of the week", 0, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
}

var cronWords = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// ParseCron reads a pattern of five fields, such as "30 8 * * MON-FRI", or a
// word such as @hourly, and the name of a time zone (IANA), UTC unless given.
// As in other crons, a day counts if it fits either of its two fields when both
// are given.
func ParseCron(pattern, zone string) (Cron, error) {
	c := Cron{Zone: time.UTC}
	if zone != "" {
		location, err := time.LoadLocation(zone)
		if err != nil || zone == "Local" {
			return Cron{}, Errorf(Invalid, "%q is not a time zone: use a name such as Europe/Berlin or UTC", zone).At("timeZone")
		}
		c.Zone = location
	}
	text := strings.TrimSpace(pattern)
	if strings.HasPrefix(text, "@") {
		full, ok := cronWords[strings.ToLower(text)]
		if !ok {
			return Cron{}, Errorf(Invalid, "there is no %q: use @hourly, @daily, @weekly, @monthly, @yearly, or five fields", pattern).At("pattern")
		}
		text = full
	}
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) {
		return Cron{}, Errorf(Invalid, "a pattern has five fields, minute, hour, day of the month, month and day of the week, as in \"30 8 * * MON-FRI\", not %d", len(fields)).At("pattern")
	}
	for i, field := range fields {
		set, ok := parseCronField(field, i)
		if !ok {
			f := cronFields[i]
			return Cron{}, Errorf(Invalid, "%q is not a %s: use * or numbers from %d to %d, with commas, ranges (1-5) and steps (*/2)%s", field, f.name, f.min, f.max,
				map[bool]string{true: ", or names such as " + strings.Join(f.words[:min(2, len(f.words))], " and ")}[f.words != nil]).At("pattern")
		}
		c.Fields[i] = set
	}
	c.anyDay, c.anyWeekday = anyCron(fields[CronDay]), anyCron(fields[CronWeekday])
	if c.Next(time.Unix(0, 0)).IsZero() {
		return Cron{}, Errorf(Invalid, "%q never comes: no month has such a day", pattern).At("pattern")
	}
	return c, nil
}

func anyCron(field string) bool { return field == "*" || field == "?" }

// parseCronField reads parts with commas between them: a value, a range or *,
// each with an optional step.
func parseCronField(field string, which int) (set uint64, ok bool) {
	f := cronFields[which]
	for part := range strings.SplitSeq(field, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		low, high, step := f.min, f.max, 1
		if !anyCron(span) {
			from, to, ranged := strings.Cut(span, "-")
			if low, ok = cronValue(from, which); !ok {
				return 0, false
			}
			switch {
			case ranged:
				if high, ok = cronValue(to, which); !ok || high < low {
					return 0, false
				}
			case !stepped:
				high = low
			}
		} else if which == CronWeekday {
			high = 6
		}
		if stepped {
			n, err := strconv.ParseUint(stepText, 10, 8)
			if step = int(n); err != nil || step == 0 {
				return 0, false
			}
		}
		for v := low; v <= high; v += step {
			set |= 1 << v
		}
	}
	if which == CronWeekday && set&(1<<7) != 0 { // 7 is Sunday, too
		set = set&^(1<<7) | 1
	}
	return set, true
}

func cronValue(text string, which int) (int, bool) {
	f := cronFields[which]
	for i, word := range f.words {
		if strings.EqualFold(text, word) {
			return f.min + i, true
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	return int(n), err == nil && int(n) >= f.min && int(n) <= f.max
}

// cronHorizon is how far ahead a time is looked for: 29 February on a given day
// of the week may take 40 years.
const cronHorizon = 41

// Next is the first of the times after t, in UTC; zero if there is none.
func (c Cron) Next(t time.Time) time.Time {
	end := t.AddDate(cronHorizon, 0, 0)
	t = t.Truncate(time.Minute).Add(time.Minute).In(c.Zone)
	for t.Before(end) {
		y, m, d := t.Date()
		switch {
		case !c.has(CronMonth, int(m)):
			t = laterOf(t, time.Date(y, m+1, 1, 0, 0, 0, 0, c.Zone))
		case !c.hasDay(d, t.Weekday()):
			t = laterOf(t, time.Date(y, m, d+1, 0, 0, 0, 0, c.Zone))
		case !c.has(CronHour, t.Hour()):
			t = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case !c.has(CronMinute, t.Minute()):
			t = t.Add(time.Minute)
		default:
			return t.UTC()
		}
	}
	return time.Time{}
}

// laterOf is a midnight after t. Where daylight saving skips midnight, it may
// come out as an hour before.
func laterOf(t, midnight time.Time) time.Time {
	if midnight.After(t) {
		return midnight
	}
	return t.Add(time.Duration(60-t.Minute()) * time.Minute)
}

func (c Cron) has(field, value int) bool { return c.Fields[field]&(1<<value) != 0 }

func (c Cron) hasDay(day int, weekday time.Weekday) bool {
	if c.EitherDay() {
		return c.has(CronDay, day) || c.has(CronWeekday, int(weekday))
	}
	return c.has(CronDay, day) && c.has(CronWeekday, int(weekday))
}

// EitherDay reports whether a day counts that fits only one of its two fields.
func (c Cron) EitherDay() bool { return !c.anyDay && !c.anyWeekday }

// CronRange is values from one to another, both included.
type CronRange struct{ From, To int }

// Ranges are the values of a field.
func (c Cron) Ranges(field int) (ranges []CronRange) {
	for set := c.Fields[field]; set != 0; {
		from := bits.TrailingZeros64(set)
		to := from + bits.TrailingZeros64(^(set >> from)) - 1
		ranges = append(ranges, CronRange{from, to})
		set = set &^ (1<<(to+1) - 1)
	}
	return ranges
}
