package warpket

import (
	"fmt"
	"maps"
	"time"
)

// Limit names what a quota bounds.
type Limit string

// The limits.
const (
	FunctionLimit  Limit = "functions"  // functions
	SlotLimit      Limit = "slots"      // slots, held and wanted, those on demand included
	ExecutionLimit Limit = "executions" // executions that are queued or running
	WaitingLimit   Limit = "waiting"    // executions that are queued
	CPULimit       Limit = "cpuSeconds" // seconds on processors in a month (UTC)
	GPULimit       Limit = "gpuSeconds" // seconds for which slots hold GPUs in a month (UTC)
	StorageLimit   Limit = "storage"    // bytes of files, their history, inputs, results and logs
)

// Limits are all limits.
var Limits = []Limit{FunctionLimit, SlotLimit, ExecutionLimit, WaitingLimit, CPULimit, GPULimit, StorageLimit}

// Quota bounds what a project may have.
type Quota struct {
	ProjectID   ID // empty for the default, which fills what a project's own leaves open
	Limits      map[Limit]int64
	UpdatedDate time.Time
}

// Or fills what q leaves open from other.
func (q Quota) Or(other Quota) Quota {
	limits := maps.Clone(other.Limits)
	if limits == nil {
		limits = map[Limit]int64{}
	}
	maps.Copy(limits, q.Limits)
	q.Limits = limits
	return q
}

// Admit refuses more of what is bounded when there is no room for it. A limit
// that was lowered below what is used takes nothing away.
func (q Quota) Admit(what Limit, used, more int64, now time.Time) error {
	limit, bounded := q.Limits[what]
	if !bounded || used+more <= limit {
		return nil
	}
	about := limitTexts[what]
	err := Errorf(OverQuota, "this project may have %d %s and has %d: %s, or ask an operator for more", limit, about.unit, used, about.help)
	if more > 1 {
		err.Message = fmt.Sprintf("this project may have %d %s, has %d, and this asks for %d more: %s, or ask an operator for more", limit, about.unit, used, more, about.help)
	}
	err.After = time.Minute
	switch what {
	case ExecutionLimit, WaitingLimit:
		err.After = time.Second
	case CPULimit, GPULimit:
		err.After = MonthOf(now).AddDate(0, 1, 0).Sub(now)
	default:
	}
	return err
}

// MonthOf is when the month of a time began.
func MonthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

var limitTexts = map[Limit]struct{ unit, help string }{
	FunctionLimit:  {"functions", "delete one"},
	SlotLimit:      {"slots", "scale a deployment down or detach one"},
	ExecutionLimit: {"executions queued or running", "wait until one has ended, or cancel one"},
	WaitingLimit:   {"executions waiting for a slot", "try again in a moment, or deploy more slots"},
	CPULimit:       {"seconds on processors in a month", "wait for the next month"},
	GPULimit:       {"seconds on GPUs in a month", "wait for the next month"},
	StorageLimit:   {"bytes stored", "delete functions; what nothing refers to is removed after a day"},
}

// Totals are what a project, or one of its functions, has used in a time.
type Totals struct {
	Executions    map[Status]int64 // that have ended, by how
	CPUSeconds    float64
	MemorySeconds float64 // gigabytes (10⁹ bytes) that executions could use, by the seconds for which they ran
	GPUSeconds    float64 // for which slots held GPUs, by how many
	SlotSeconds   float64 // for which slots were held
}
