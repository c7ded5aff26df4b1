package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Schedule executes a function at times to come.
type Schedule struct {
	ID                 string     `json:"id" doc:"ID of the schedule, and of Temporal's"`
	Name               string     `json:"name" doc:"What you call it; empty if you gave none" example:"nightly"`
	FunctionID         string     `json:"functionId" doc:"ID of the function that it executes, itself or by its alias"`
	FunctionName       string     `json:"functionName" doc:"Name of that function" example:"bell"`
	Version            int        `json:"version,omitempty" doc:"Number of the version that it executes; absent: the newest when it fires, unless it has an alias or is for the draft" example:"1"`
	Alias              string     `json:"alias,omitempty" doc:"Name of the alias that chooses the version when it fires; absent for a function" example:"bell-prod"`
	Draft              bool       `json:"draft,omitempty" doc:"It executes the draft as it is when it fires"`
	Input              Any        `json:"input" doc:"What the handler gets as its event"`
	Pattern            string     `json:"pattern,omitempty" doc:"When it fires; absent: once, at firstExecutionTime" example:"30 8 * * MON-FRI"`
	TimeZone           string     `json:"timeZone,omitempty" doc:"Time zone of the pattern; absent: UTC" example:"Europe/Berlin"`
	FirstExecutionTime *time.Time `json:"firstExecutionTime,omitempty" doc:"It fires then, and not before"`
	Count              *int       `json:"count" doc:"How often it fires yet; null: without end" example:"10"`
	Status             string     `json:"status" enum:"running,paused,done,cancelled" doc:"done and cancelled are final"`
	NextExecutionTime  *time.Time `json:"nextExecutionTime,omitempty" doc:"When it fires next; absent unless it is running"`
	LastExecutionTime  *time.Time `json:"lastExecutionTime,omitempty" doc:"The time for which it fired last, or was to; absent before the first"`
	LastExecutionID    string     `json:"lastExecutionId,omitempty" doc:"ID of the execution that it then created; absent if it created none"`
	LastError          string     `json:"lastError,omitempty" doc:"Why it then created none" example:"there is no version 3"`
	TemporalURL        string     `json:"temporalUrl,omitempty" doc:"Its page in the Temporal UI"`
	CreatedDate        time.Time  `json:"createdDate" doc:"When it was created"`
	UpdatedDate        time.Time  `json:"updatedDate" doc:"When it was last changed, or fired"`
}

func (s *Server) toSchedule(sc warpket.Schedule) Schedule {
	out := Schedule{
		ID: string(sc.ID), Name: sc.Name, FunctionID: string(sc.FunctionID), FunctionName: sc.FunctionName, Version: sc.Version, Alias: sc.Alias, Draft: sc.Draft, Input: sc.Input,
		Pattern: sc.Pattern, TimeZone: sc.TimeZone, FirstExecutionTime: sc.FirstTime, Count: sc.Count, Status: string(sc.Status), NextExecutionTime: sc.NextTime,
		LastExecutionTime: sc.LastTime, LastExecutionID: string(sc.LastExecutionID), LastError: sc.LastError, CreatedDate: sc.CreatedDate, UpdatedDate: sc.UpdatedDate,
	}
	if !sc.Status.Final() {
		out.TemporalURL = s.Workflows.ScheduleURL(sc.ID)
	}
	return out
}

// CreateScheduleRequest asks for a schedule.
type CreateScheduleRequest struct {
	Name               string     `json:"name,omitempty" maxLength:"255" doc:"What you call it" example:"nightly"`
	FunctionID         string     `json:"functionId,omitempty" maxLength:"64" doc:"ID of the function; needed unless an alias is named" example:"01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a"`
	Version            int        `json:"version,omitempty" minimum:"1" maximum:"2147483647" doc:"Number of the version; unless set, the newest when it fires" example:"1"`
	Alias              string     `json:"alias,omitempty" maxLength:"255" doc:"Name of an alias, in the place of functionId and version: it chooses the version when the schedule fires" example:"bell-prod"`
	Draft              bool       `json:"draft,omitempty" doc:"Execute the function's draft, as it is when the schedule fires, instead of a version"`
	Input              Any        `json:"input,omitempty" doc:"What the handler gets as its event: any JSON value, an empty object unless set; at most 64 KiB"`
	Pattern            string     `json:"pattern,omitempty" maxLength:"200" doc:"Five fields, minute, hour, day of the month, month and day of the week, with names such as SUN and JAN; or @hourly, @daily, @weekly, @monthly, @yearly. A day counts that fits either of its two fields when both are given" example:"30 8 * * MON-FRI"`
	TimeZone           string     `json:"timeZone,omitempty" maxLength:"64" doc:"Time zone of the pattern, by its IANA name; UTC unless set. A time that daylight saving skips does not come; one that it repeats may come twice" example:"Europe/Berlin"`
	FirstExecutionTime *time.Time `json:"firstExecutionTime,omitempty" doc:"It fires then, and not before. Without a pattern it fires this once"`
	Count              *int       `json:"count,omitempty" minimum:"1" maximum:"1000000000" doc:"How often it fires; without end unless set" example:"10"`
}

// UpdateScheduleRequest changes a schedule. What is absent stays as it is.
type UpdateScheduleRequest struct {
	Name               *string    `json:"name,omitempty" maxLength:"255" doc:"What you call it" example:"nightly"`
	Version            *int       `json:"version,omitempty" minimum:"0" maximum:"2147483647" doc:"Number of the version, in the place of an alias or the draft; 0: the newest when it fires" example:"2"`
	Alias              string     `json:"alias,omitempty" maxLength:"255" doc:"Name of an alias, in the place of the version or the draft" example:"bell-prod"`
	Draft              bool       `json:"draft,omitempty" doc:"Execute the draft, in the place of the version or an alias"`
	Input              Any        `json:"input,omitempty" doc:"What the handler gets as its event: any JSON value; at most 64 KiB"`
	Pattern            *string    `json:"pattern,omitempty" maxLength:"200" doc:"When it fires; empty: once, at firstExecutionTime" example:"@hourly"`
	TimeZone           *string    `json:"timeZone,omitempty" maxLength:"64" doc:"Time zone of the pattern; empty: UTC" example:"Europe/Berlin"`
	FirstExecutionTime *time.Time `json:"firstExecutionTime,omitempty" doc:"The next time at which it fires; from then on as the pattern says"`
	Count              *int       `json:"count,omitempty" minimum:"0" maximum:"1000000000" doc:"How often it fires from now on; 0: without end"`
	Status             string     `json:"status,omitempty" enum:"running,paused,cancelled" doc:"paused stops it for now, running resumes it, cancelled ends it for good"`
}

type (
	// ScheduleInput names a schedule in a path. It is exported for huma, which
	// reads no other embedded fields.
	ScheduleInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the schedule"`
	}
	scheduleOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Schedule
	}
)

func (s *Server) addSchedules() {
	tags := []string{"Schedules"}
	register(s, Write, huma.Operation{
		OperationID: "create-schedule", Method: http.MethodPost, Path: "/v1/schedules", Tags: tags, Summary: "Schedule a function", DefaultStatus: http.StatusOK,
		Description: "Executes a function, or what an alias stands for, at times to come, each in the lane durable. What is missed because no server was there is made up for within five minutes; later it is left out, unless it was asked for once. " +
			"A time at which no execution could be created, because the project's quota has no room for it, say, does not count, and lastError tells why.",
		Errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge},
	}, s.createSchedule, byLoading)
	register(s, Read, huma.Operation{
		OperationID: "list-schedules", Method: http.MethodGet, Path: "/v1/schedules", Tags: tags, Summary: "List schedules",
	}, s.listSchedules, byFilter)
	register(s, Read, huma.Operation{
		OperationID: "get-schedule", Method: http.MethodGet, Path: "/v1/schedules/{id}", Tags: tags, Summary: "Get a schedule", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *ScheduleInput) (*scheduleOutput, error) {
		id, err := warpket.ParseID("schedule", in.ID)
		if err != nil {
			return nil, err
		}
		sc, err := s.Store.Schedule(ctx, projectOf(ctx), id)
		if err != nil {
			return nil, err
		}
		return s.scheduleAnswer(sc), mayReachSchedule(ctx, sc)
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "update-schedule", Method: http.MethodPatch, Path: "/v1/schedules/{id}", Tags: tags, Summary: "Change, pause, resume or cancel a schedule",
		Description: "What is done or cancelled cannot be changed.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge},
	}, s.updateSchedule, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "delete-schedule", Method: http.MethodDelete, Path: "/v1/schedules/{id}", Tags: tags, Summary: "Delete a schedule", DefaultStatus: http.StatusNoContent,
		Description: "The executions that it has created stay.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *ScheduleInput) (*struct{}, error) {
		id, err := warpket.ParseID("schedule", in.ID)
		if err != nil {
			return nil, err
		}
		return nil, s.RemoveSchedule(ctx, id)
	}, byLoading)
}

func mayReachSchedule(ctx context.Context, sc warpket.Schedule) error {
	return mayReachThe(ctx, "schedule", sc.ID, sc.FunctionID)
}

func (s *Server) scheduleAnswer(sc warpket.Schedule) *scheduleOutput {
	return &scheduleOutput{etag(sc.UpdatedDate), s.toSchedule(sc)}
}

func (s *Server) createSchedule(ctx context.Context, in *struct{ Body CreateScheduleRequest }) (*scheduleOutput, error) {
	b, now := in.Body, s.Now()
	if (b.FunctionID == "") == (b.Alias == "") {
		return nil, warpket.Errorf(warpket.Invalid, "a schedule executes a function or an alias: give one of functionId and alias").At("functionId")
	}
	var function warpket.ID // the alias tells it
	if b.Alias == "" {
		var err error
		if function, err = warpket.ParseID("function", b.FunctionID); err != nil {
			return nil, err
		}
	}
	sc := warpket.Schedule{
		ID: s.newID(ctx), ProjectID: projectOf(ctx), FunctionID: function, Name: b.Name, Version: b.Version, Alias: b.Alias, Draft: b.Draft, Input: given(b.Input),
		Pattern: b.Pattern, TimeZone: b.TimeZone, Count: b.Count, Status: warpket.ScheduleRunning, CreatedDate: now, UpdatedDate: now,
	}
	sc.Description = "Created by schedule " + string(sc.ID)
	if b.FirstExecutionTime != nil {
		if err := sc.SetFirst(*b.FirstExecutionTime, now); err != nil {
			return nil, err
		}
	}
	sc, err := s.AddSchedule(ctx, sc)
	return s.scheduleAnswer(sc), err
}

// AddSchedule adds a schedule, which begins.
func (s *Server) AddSchedule(ctx context.Context, sc warpket.Schedule) (warpket.Schedule, error) {
	if err := sc.Check(); err != nil {
		return sc, err
	}
	if err := sc.Begin(s.Now()); err != nil {
		return sc, err
	}
	if err := s.mayAim(ctx, sc.FunctionID, sc.Alias); err != nil {
		return sc, err
	}
	if err := s.Store.CreateSchedule(ctx, sc); err != nil {
		return sc, err
	}
	s.Fleet.ScheduleChanged(ctx, sc.ID)
	return s.Store.Schedule(ctx, sc.ProjectID, sc.ID)
}

// ChangeSchedule changes what b sets of a schedule, unless check refuses what it
// is at that moment.
func (s *Server) ChangeSchedule(ctx context.Context, id warpket.ID, b UpdateScheduleRequest, check func(warpket.Schedule) error) (warpket.Schedule, error) {
	now := s.Now()
	if b.Alias != "" {
		if err := s.mayAim(ctx, "", b.Alias); err != nil {
			return warpket.Schedule{}, err
		}
	}
	sc, err := s.Store.UpdateSchedule(ctx, projectOf(ctx), id, now, func(sc *warpket.Schedule) error {
		if err := mayReachSchedule(ctx, *sc); err != nil {
			return err
		}
		if err := check(*sc); err != nil {
			return err
		}
		return b.apply(sc, now)
	})
	if err == nil {
		s.Fleet.ScheduleChanged(ctx, id)
	}
	return sc, err
}

// RemoveSchedule deletes a schedule.
func (s *Server) RemoveSchedule(ctx context.Context, id warpket.ID) error {
	err := s.Store.DeleteSchedule(ctx, projectOf(ctx), id, func(sc warpket.Schedule) error { return mayReachSchedule(ctx, sc) })
	if err == nil {
		s.Fleet.ScheduleChanged(ctx, id)
	}
	return err
}

// given is an input, or what the handler gets when the caller gives none.
func given(input Any) Any {
	if len(input) == 0 {
		return Any("{}")
	}
	return input
}

func (s *Server) listSchedules(ctx context.Context, in *struct {
	PageInput
	FunctionID string `query:"functionId" maxLength:"64" doc:"Only those of this function"`
	Alias      string `query:"alias" maxLength:"255" doc:"Only those that execute this alias" example:"bell-prod"`
	Status     string `query:"status" enum:"running,paused,done,cancelled" doc:"Only those with this status" example:"running"`
	NameInput
},
) (*listOutput[Schedule], error) {
	name, err := in.condition()
	if err != nil {
		return nil, err
	}
	filter := postgres.ScheduleFilter{Alias: in.Alias, Status: warpket.ScheduleStatus(in.Status), Name: name, Functions: reachable(ctx)}
	if in.FunctionID != "" {
		if filter.FunctionID, err = warpket.ParseID("function", in.FunctionID); err != nil {
			return list[warpket.Schedule](nil, "", s.toSchedule), nil //nolint:nilerr // no such function has no schedules
		}
	}
	items, next, err := s.Store.Schedules(ctx, projectOf(ctx), filter, in.page())
	return list(items, next, s.toSchedule), err
}

func (s *Server) updateSchedule(ctx context.Context, in *struct {
	ScheduleInput
	MatchInput
	Body UpdateScheduleRequest
},
) (*scheduleOutput, error) {
	id, err := warpket.ParseID("schedule", in.ID)
	if err != nil {
		return nil, err
	}
	sc, err := s.ChangeSchedule(ctx, id, in.Body, func(sc warpket.Schedule) error { return in.check("schedule", sc.UpdatedDate) })
	if err != nil {
		return nil, err
	}
	return s.scheduleAnswer(sc), nil
}

// apply makes the change that is asked for.
func (b UpdateScheduleRequest) apply(sc *warpket.Schedule, now time.Time) error {
	if sc.Status.Final() {
		return warpket.Errorf(warpket.Conflict, "schedule %s is %s: it does not change any more, create another", sc.ID, sc.Status)
	}
	set(&sc.Name, b.Name)
	b.aim(sc)
	set(&sc.Pattern, b.Pattern)
	set(&sc.TimeZone, b.TimeZone)
	if len(b.Input) > 0 {
		sc.Input = b.Input
	}
	if b.Count != nil {
		if sc.Count = b.Count; *b.Count == 0 {
			sc.Count = nil
		}
	}
	if b.FirstExecutionTime != nil {
		if err := sc.SetFirst(*b.FirstExecutionTime, now); err != nil {
			return err
		}
	}
	if err := sc.Check(); err != nil {
		return err
	}
	if err := sc.Advance(cmp.Or(warpket.ScheduleStatus(b.Status), sc.Status), now); err != nil {
		return err
	}
	if b.Pattern == nil && b.TimeZone == nil && b.FirstExecutionTime == nil {
		return nil // and what is about to be made up for stays so
	}
	return sc.Begin(now)
}

// aim has a schedule execute something else of what its function has, or what an
// alias stands for. What is not said any more goes.
func (b UpdateScheduleRequest) aim(sc *warpket.Schedule) {
	if b.Version == nil && b.Alias == "" && !b.Draft {
		return
	}
	sc.Version, sc.Alias, sc.Draft = 0, b.Alias, b.Draft
	set(&sc.Version, b.Version)
}

// set takes a value that was given.
func set[T any](field, given *T) {
	if given != nil {
		*field = *given
	}
}
