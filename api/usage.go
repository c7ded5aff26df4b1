package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Used is what was used in a day or by a function.
type Used struct {
	Day           string  `json:"day,omitempty" format:"date" doc:"The day (UTC), when asked for by day" example:"2026-11-27"`
	FunctionID    string  `json:"functionId,omitempty" doc:"ID of the function, when asked for by function; it may have been deleted"`
	Succeeded     int64   `json:"succeeded" doc:"Executions that succeeded"`
	Failed        int64   `json:"failed" doc:"Executions that failed"`
	Cancelled     int64   `json:"cancelled" doc:"Executions that were cancelled"`
	TimedOut      int64   `json:"timedOut" doc:"Executions that ran longer than they may"`
	Lost          int64   `json:"lost" doc:"Executions whose outcome was lost"`
	CPUSeconds    float64 `json:"cpuSeconds" doc:"Seconds on processors, of all attempts"`
	MemorySeconds float64 `json:"memorySeconds" doc:"Gigabytes (1000000000 bytes) that executions could use, by the seconds for which they ran"`
	GPUSeconds    float64 `json:"gpuSeconds" doc:"Seconds for which slots held GPUs, by how many"`
	SlotSeconds   float64 `json:"slotSeconds" doc:"Seconds for which slots were held"`
}

func toUsed(day bool) func(postgres.Usage) Used {
	return func(u postgres.Usage) Used {
		out := Used{
			FunctionID: string(u.FunctionID), Succeeded: u.Executions[warpket.Succeeded], Failed: u.Executions[warpket.Failed], Cancelled: u.Executions[warpket.Cancelled],
			TimedOut: u.Executions[warpket.TimedOut], Lost: u.Executions[warpket.Lost],
			CPUSeconds: u.CPUSeconds, MemorySeconds: u.MemorySeconds, GPUSeconds: u.GPUSeconds, SlotSeconds: u.SlotSeconds,
		}
		if day {
			out.Day = u.Day.UTC().Format(time.DateOnly)
		}
		return out
	}
}

func (s *Server) addUsage() {
	register(s, Read, huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: "/v1/usage", Tags: []string{"Quotas"}, Summary: "List what was used",
		Description: "By day, days without usage left out, or by function. An execution counts in the hour in which it ended, with all that it used; slots count as time goes. What is deleted stays counted.",
	}, s.getUsage, byFilter)
}

// maxUsageTime is the longest time that usage is asked for at once.
const maxUsageTime = 366 * 24 * time.Hour

func (s *Server) getUsage(ctx context.Context, in *struct {
	PageInput
	ProjectID string    `query:"projectId" maxLength:"64" doc:"ID or name of the project; the caller's unless set. For an operator also the ID of one that was deleted"`
	By        string    `query:"by" enum:"day,function" default:"day" doc:"What the items are"`
	Since     time.Time `query:"since" doc:"From this time on, to the hour; the beginning of the month unless set"`
	Until     time.Time `query:"until" doc:"Before this time, to the hour, at most 366 days after since; now unless set"`
},
) (*listOutput[Used], error) {
	project, err := s.projectAsked(ctx, in.ProjectID)
	if gone, parsed := warpket.ParseID("project", in.ProjectID); warpket.KindOf(err) == warpket.NotFound && parsed == nil && callerOf(ctx).role == warpket.Operator {
		project, err = gone, nil
	}
	if err != nil {
		return nil, err
	}
	f := postgres.UsageFilter{Since: in.Since.Truncate(time.Hour), Until: in.Until.Truncate(time.Hour), Functions: reachable(ctx)}
	if in.Until.IsZero() {
		f.Until = s.Now().Truncate(time.Hour).Add(time.Hour)
	}
	if in.Since.IsZero() {
		f.Since = warpket.MonthOf(f.Until.Add(-1))
	}
	switch {
	case !f.Since.Before(f.Until):
		return nil, warpket.Errorf(warpket.Invalid, "since is to be at least an hour before until").At("query.since")
	case f.Until.Sub(f.Since) > maxUsageTime:
		return nil, warpket.Errorf(warpket.Invalid, "usage is told for at most 366 days at once: ask in parts").At("query.since")
	case in.By == "function":
		items, next, err := s.Store.UsageByFunction(ctx, project, f, in.page())
		return list(items, next, toUsed(false)), err
	}
	days, err := s.Store.UsageByDay(ctx, project, f)
	return list(days, "", toUsed(true)), err
}
