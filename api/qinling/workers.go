package qinling

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type workerObject struct {
	FunctionID      string `json:"function_id"`
	FunctionVersion int    `json:"function_version"`
	WorkerName      string `json:"worker_name" doc:"Up to three slots are one worker, which is called by the ID of the oldest"`
}

func (w *wire) addWorkers() {
	type workers struct {
		Workers []workerObject `json:"workers"`
	}
	tags := []string{"Workers"}
	register(w, api.Operate, huma.Operation{OperationID: "list-workers", Method: http.MethodGet, Path: "/v1/functions/{id}/workers", Tags: tags, Summary: "List the workers of a function", Metadata: takes("function_version")},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[workers], error) {
			f, ctx, err := w.function(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			number, err := strconv.Atoi(in.query.Get("function_version"))
			if in.query.Has("function_version") && (err != nil || number < 0) {
				return nil, invalid("Invalid function_version specified. An integer is required.")
			}
			snapshot, err := w.snapshotOf(ctx, f, number)
			if err != nil {
				return nil, err
			}
			slots, err := list(ctx, []warpket.ID{f.ProjectID}, func(s warpket.Worker) warpket.ID { return s.Slot }, func(s warpket.Worker) bool { return s.Snapshot == snapshot },
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Worker, string, error) {
					return w.server.Store.Workers(ctx, project, f.ID, postgres.WorkerFilter{}, page)
				})
			out := workers{Workers: []workerObject{}}
			for i := len(slots) - 1; i >= 0; i -= slotsPerWorker {
				out.Workers = append(out.Workers, workerObject{FunctionID: string(f.ID), FunctionVersion: number, WorkerName: string(slots[i].Slot)})
			}
			return &output[workers]{out}, err
		})
	for _, way := range []struct {
		id, name, summary string
		more              bool
	}{{"scale-up", "scale_up", "Scale up", true}, {"scale-down", "scale_down", "Scale down", false}} {
		register(w, api.Operate, huma.Operation{OperationID: way.id + "-function", Method: http.MethodPost, Path: "/v1/functions/{id}/" + way.name, Tags: tags, Summary: way.summary + " a function", DefaultStatus: http.StatusAccepted},
			func(ctx context.Context, in *struct {
				ByID
				Sent
			},
			) (*nothing, error) {
				f, ctx, err := w.function(ctx, in.ID)
				if err != nil {
					return nil, err
				}
				d, err := w.server.Store.Draft(ctx, f.ProjectID, f.ID)
				if err != nil {
					return nil, err
				}
				return w.scale(ctx, f, d.Version(), &in.Sent, way.more, in.base)
			})
		register(w, api.Operate, huma.Operation{OperationID: way.id + "-version", Method: http.MethodPost, Path: "/v1/functions/{id}/versions/{version}/" + way.name, Tags: tags, Summary: way.summary + " a version", DefaultStatus: http.StatusAccepted},
			func(ctx context.Context, in *struct {
				ByVersion
				Sent
			},
			) (*nothing, error) {
				f, v, ctx, err := w.version(ctx, in.ByVersion)
				if err != nil {
					return nil, err
				}
				return w.scale(ctx, f, v, &in.Sent, way.more, in.base)
			})
	}
	register(w, api.Operate, huma.Operation{OperationID: "detach-function", Method: http.MethodPost, Path: "/v1/functions/{id}/detach", Tags: tags, Summary: "Detach a function from its workers", DefaultStatus: http.StatusAccepted},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*nothing, error) {
			f, ctx, err := w.function(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return w.detach(ctx, f, warpket.DraftNumber, in.base)
		})
	register(w, api.Operate, huma.Operation{OperationID: "detach-version", Method: http.MethodPost, Path: "/v1/functions/{id}/versions/{version}/detach", Tags: tags, Summary: "Detach a version from its workers", DefaultStatus: http.StatusAccepted},
		func(ctx context.Context, in *struct {
			Query
			ByVersion
		},
		) (*nothing, error) {
			f, v, ctx, err := w.version(ctx, in.ByVersion)
			if err != nil {
				return nil, err
			}
			return w.detach(ctx, f, v.Number, in.base)
		})
}

// snapshotOf is the code of a version, or of the draft as it is now: workers that
// still have an earlier one are on their way out.
func (w *wire) snapshotOf(ctx context.Context, f warpket.Function, number int) (warpket.ID, error) {
	if number == warpket.DraftNumber {
		d, err := w.server.Store.Draft(ctx, f.ProjectID, f.ID)
		return d.Snapshot.ID, err
	}
	v, err := w.server.Store.Version(ctx, f.ProjectID, f.ID, number)
	return v.Snapshot.ID, notFound(err, "FunctionVersion", "function_id=%s, version_number=%d", f.ID, number)
}

// open are the deployments of a version that hold slots or want them.
func (w *wire) open(ctx context.Context, f warpket.Function, number int) ([]warpket.Deployment, error) {
	all, _, err := w.server.Store.Deployments(ctx, f.ProjectID, postgres.DeploymentFilter{FunctionID: f.ID, Version: &number}, postgres.Page{Limit: postgres.MaxPage})
	var open []warpket.Deployment
	for _, d := range all {
		if !d.Status.Final() {
			open = append(open, d)
		}
	}
	return open, err
}

// scale gives a version more workers or fewer, but not less than one. What is
// scaled is a deployment: slots on demand come and go by themselves.
func (w *wire) scale(ctx context.Context, f warpket.Function, v warpket.Version, in *Sent, more bool, base string) (*nothing, error) {
	said, err := in.either()
	if err != nil {
		return nil, err
	}
	const wrong = "Invalid count specified. A positive integer is required."
	count, given, err := said.integer("count", wrong)
	if err != nil {
		return nil, err
	}
	if !given {
		count = 1
	}
	if count < 1 || count > warpket.MaxSlots/slotsPerWorker {
		return nil, invalid(wrong)
	}
	open, err := w.open(ctx, f, v.Number)
	if err != nil {
		return nil, err
	}
	accepted := &nothing{Location: base + "/v1/functions/" + string(f.ID) + "/workers?function_version=" + strconv.Itoa(v.Number)}
	switch slots := count * slotsPerWorker; {
	case len(open) > 0 && more:
		if slots += open[0].Slots; slots > warpket.MaxSlots {
			return nil, invalid("A function has at most %d workers.", warpket.MaxSlots/slotsPerWorker)
		}
		err = w.server.Workflows.Scale(ctx, open[0].ID, slots, time.Time{})
	case len(open) > 0:
		if slots = max(open[0].Slots-slots, slotsPerWorker); slots < open[0].Slots {
			err = w.server.Workflows.Scale(ctx, open[0].ID, slots, time.Time{})
		}
	case more:
		err = w.server.Deploy(ctx, f, v, slots)
	}
	return accepted, err
}

// detach has what keeps a version on slots give them back. Slots on demand go
// when they have been idle for a while.
func (w *wire) detach(ctx context.Context, f warpket.Function, number int, base string) (*nothing, error) {
	open, err := w.open(ctx, f, number)
	if err != nil {
		return nil, err
	}
	for _, d := range open {
		if err := w.server.Detach(ctx, d.ID); err != nil {
			return nil, err
		}
	}
	return &nothing{Location: base + "/v1/functions/" + string(f.ID) + "/workers?function_version=" + strconv.Itoa(number)}, nil
}
