package qinling

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type jobObject struct {
	ID                 string  `json:"id"`
	Name               *string `json:"name"`
	FunctionAlias      *string `json:"function_alias"`
	FunctionID         *string `json:"function_id"`
	FunctionVersion    *int    `json:"function_version" doc:"Null with an alias, and where natively the newest is meant"`
	FunctionInput      *string `json:"function_input"`
	Pattern            *string `json:"pattern"`
	Count              *int    `json:"count" doc:"How often it runs yet; null: without end"`
	Status             string  `json:"status" enum:"running,paused,done,cancelled"`
	FirstExecutionTime *string `json:"first_execution_time"`
	NextExecutionTime  *string `json:"next_execution_time"`
	ProjectID          string  `json:"project_id"`
	CreatedAt          string  `json:"created_at"`
	UpdatedAt          *string `json:"updated_at"`
}

func toJob(s warpket.Schedule) jobObject {
	out := jobObject{
		ID: string(s.ID), Name: orNull(s.Name), FunctionAlias: orNull(s.Alias), FunctionInput: inputText(s.Input), Pattern: orNull(s.Pattern), Count: s.Count, Status: string(s.Status),
		ProjectID: string(s.ProjectID), CreatedAt: timestamp(s.CreatedDate), UpdatedAt: updated(s.CreatedDate, s.UpdatedDate),
	}
	if s.Alias == "" {
		out.FunctionID = orNull(s.FunctionID)
		if s.Draft || s.Version != 0 {
			out.FunctionVersion = &s.Version
		}
	}
	for to, t := range map[**string]*time.Time{&out.FirstExecutionTime: s.FirstTime, &out.NextExecutionTime: s.NextTime} {
		if t != nil {
			*to = new(timestamp(*t))
		}
	}
	return out
}

func (w *wire) addJobs() {
	type jobs struct {
		Jobs []jobObject `json:"jobs"`
	}
	tags := []string{"Jobs"}
	register(w, api.Read, huma.Operation{OperationID: "list-jobs", Method: http.MethodGet, Path: "/v1/jobs", Tags: tags, Summary: "List jobs", Metadata: ofProjects()},
		func(ctx context.Context, in *struct{ Query }) (*output[jobs], error) {
			projects, err := w.projects(ctx, &in.Query)
			if err != nil {
				return nil, err
			}
			found, err := list(ctx, projects, func(s warpket.Schedule) warpket.ID { return s.ID }, always,
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Schedule, string, error) {
					return w.server.Store.Schedules(ctx, project, postgres.ScheduleFilter{}, page)
				})
			out := jobs{Jobs: []jobObject{}}
			for _, s := range found {
				out.Jobs = append(out.Jobs, toJob(s))
			}
			return &output[jobs]{out}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "create-job", Method: http.MethodPost, Path: "/v1/jobs", Tags: tags, Summary: "Create a job", DefaultStatus: http.StatusCreated}, w.createJob)
	register(w, api.Read, huma.Operation{OperationID: "get-job", Method: http.MethodGet, Path: "/v1/jobs/{id}", Tags: tags, Summary: "Show a job"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[jobObject], error) {
			s, _, err := w.job(ctx, in.ByID)
			return &output[jobObject]{toJob(s)}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "update-job", Method: http.MethodPut, Path: "/v1/jobs/{id}", Tags: tags, Summary: "Update a job"}, w.updateJob)
	register(w, api.Write, huma.Operation{OperationID: "delete-job", Method: http.MethodDelete, Path: "/v1/jobs/{id}", Tags: tags, Summary: "Delete a job"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*struct{}, error) {
			s, ctx, err := w.job(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			return nil, w.server.RemoveSchedule(ctx, s.ID)
		})
}

// job finds a job, and has an operator work in its project.
func (w *wire) job(ctx context.Context, in ByID) (s warpket.Schedule, _ context.Context, err error) {
	id, err := in.parse()
	if err != nil {
		return s, ctx, err
	}
	caller := api.CallerOf(ctx)
	if caller.Role == warpket.Operator {
		if s, err = w.server.Store.ScheduleByID(ctx, id); err == nil {
			ctx, err = api.In(ctx, s.ProjectID)
		}
	} else {
		s, err = w.server.Store.Schedule(ctx, caller.Project, id)
	}
	return s, ctx, notFound(err, "Job", "id=%s", id)
}

// moment reads a time to come, in UTC unless it says otherwise.
func (f fields) moment(name string, now time.Time) (*time.Time, error) {
	text, err := f.text(name)
	if err != nil || text == "" {
		return nil, err
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		at, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		if at.Before(now.Add(minAhead)) {
			return nil, invalid("Execution time must be at least 1 minute in the future.")
		}
		return &at, nil
	}
	return nil, invalid("Unrecognizable date. Value: '%.40s'. Give %s such as 2030-01-31T12:00:00.", text, name)
}

func (w *wire) createJob(ctx context.Context, in *Sent) (*output[jobObject], error) {
	said, err := in.object("job", "name", "function_id", "function_version", "function_alias", "function_input", "pattern", "count", "first_execution_time")
	if err != nil {
		return nil, err
	}
	t, err := w.target(ctx, said)
	if err != nil {
		return nil, err
	}
	now := w.server.Now()
	s := warpket.Schedule{
		ID: w.server.NewID(ctx), ProjectID: t.function.ProjectID, FunctionID: t.function.ID, Alias: t.alias,
		Status: warpket.ScheduleRunning, CreatedDate: now, UpdatedDate: now,
	}
	s.Description = "Created by Job " + string(s.ID)
	if t.alias == "" {
		s.Version, s.Draft = t.version, t.version == warpket.DraftNumber
	}
	var input string
	if err := said.texts(map[string]*string{"name": &s.Name, "pattern": &s.Pattern, "function_input": &input}); err != nil {
		return nil, err
	}
	s.Input = inputOf(input, said.has("function_input"))
	first, err := said.moment("first_execution_time", now)
	if err != nil {
		return nil, err
	}
	count, counted, err := said.integer("count", "Invalid count specified. A positive integer is required.")
	switch {
	case err != nil:
		return nil, err
	case counted && (count < 1 || count > warpket.MaxCount):
		return nil, invalid("Invalid count specified. A positive integer is required.")
	case first == nil && s.Pattern == "":
		return nil, invalid("Pattern or first_execution_time must be provided.")
	case s.Pattern == "" && count > 1:
		return nil, invalid("pattern must be provided if count is greater than 1.")
	case s.Pattern == "":
		s.Count = new(1)
	case counted:
		s.Count = &count
	}
	if first != nil {
		if err := s.SetFirst(*first, now); err != nil {
			return nil, err
		}
	}
	made, err := w.server.AddSchedule(ctx, s)
	return &output[jobObject]{toJob(made)}, err
}

func (w *wire) updateJob(ctx context.Context, in *struct {
	ByID
	Sent
},
) (*output[jobObject], error) {
	s, ctx, err := w.job(ctx, in.ByID)
	if err != nil {
		return nil, err
	}
	said, err := in.object("job", "name", "function_input", "status", "pattern", "next_execution_time")
	if err != nil {
		return nil, err
	}
	var b api.UpdateScheduleRequest
	var name, pattern, input string
	if err := said.texts(map[string]*string{"name": &name, "pattern": &pattern, "function_input": &input, "status": &b.Status}); err != nil {
		return nil, err
	}
	if said.has("name") {
		b.Name = &name
	}
	if said.has("pattern") {
		b.Pattern = &pattern
	}
	if said.has("function_input") {
		b.Input = inputOf(input, true)
	}
	switch b.Status {
	case "", string(warpket.ScheduleRunning), string(warpket.SchedulePaused), string(warpket.ScheduleCancelled):
	case "canceled":
		b.Status = string(warpket.ScheduleCancelled)
	default:
		return nil, invalid("Invalid status. Allowed: running, paused, cancelled.")
	}
	if b.FirstExecutionTime, err = said.moment("next_execution_time", w.server.Now()); err != nil {
		return nil, err
	}
	changed, err := w.server.ChangeSchedule(ctx, s.ID, b, func(s warpket.Schedule) error {
		switch {
		case s.Status.Final():
			return invalid("Can not update a finished job.")
		case b.Pattern != nil && (s.Pattern == "") != (*b.Pattern == ""):
			return invalid("Can not change job type.")
		}
		return nil
	})
	return &output[jobObject]{toJob(changed)}, notFound(err, "Job", "id=%s", s.ID)
}
