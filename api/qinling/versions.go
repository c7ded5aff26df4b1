package qinling

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type versionObject struct {
	ID          string  `json:"id"`
	FunctionID  string  `json:"function_id"`
	Number      int     `json:"version_number"`
	Description *string `json:"description"`
	Count       int64   `json:"count"`
	ProjectID   string  `json:"project_id"`
	CreatedAt   string  `json:"created_at"`
	UpdatedAt   *string `json:"updated_at"`
}

func toVersion(v warpket.Version, counts map[warpket.ID]map[int]int64) versionObject {
	return versionObject{
		ID: string(v.ID), FunctionID: string(v.FunctionID), Number: v.Number, Description: orNull(v.Description), Count: counts[v.FunctionID][v.Number],
		ProjectID: string(v.ProjectID), CreatedAt: timestamp(v.CreatedDate), UpdatedAt: updated(v.CreatedDate, v.UpdatedDate),
	}
}

// ByVersion names a version in a path. It is exported for huma, which reads no
// other embedded fields.
type ByVersion struct {
	ByID
	Version string `path:"version" doc:"Number of the version"`
}

func (in ByVersion) number() (int, error) {
	n, err := strconv.Atoi(in.Version)
	if err != nil || n < 1 || n > 1<<31-1 {
		return 0, newFault(http.StatusNotFound, "FunctionVersion not found [function_id="+clip(in.ID)+", version_number="+clip(in.Version)+"]")
	}
	return n, nil
}

func (w *wire) addVersions() {
	type versions struct {
		Versions []versionObject `json:"function_versions"`
	}
	tags := []string{"Versions"}
	register(w, api.Read, huma.Operation{OperationID: "list-versions", Method: http.MethodGet, Path: "/v1/functions/{id}/versions", Tags: tags, Summary: "List the versions of a function"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[versions], error) {
			f, ctx, err := w.function(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			found, err := list(ctx, []warpket.ID{f.ProjectID}, func(v warpket.Version) warpket.ID { return v.ID }, always,
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Version, string, error) {
					return w.server.Store.Versions(ctx, project, f.ID, postgres.VersionFilter{}, page)
				})
			if err != nil {
				return nil, err
			}
			counts, err := w.server.Store.ExecutionCounts(ctx, f.ProjectID, f.ID)
			out := versions{Versions: []versionObject{}}
			for _, v := range found {
				out.Versions = append(out.Versions, toVersion(v, counts))
			}
			return &output[versions]{out}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "create-version", Method: http.MethodPost, Path: "/v1/functions/{id}/versions", Tags: tags, Summary: "Create a version", DefaultStatus: http.StatusCreated}, w.createVersion)
	register(w, api.Read, huma.Operation{OperationID: "get-version", Method: http.MethodGet, Path: "/v1/functions/{id}/versions/{version}", Tags: tags, Summary: "Show or download a version", Metadata: takes("download")},
		func(ctx context.Context, in *struct {
			Query
			ByVersion
		},
		) (*huma.StreamResponse, error) {
			f, v, ctx, err := w.version(ctx, in.ByVersion)
			if err != nil {
				return nil, err
			}
			download, err := in.flag("download")
			if err != nil {
				return nil, err
			}
			if download {
				return w.archive(ctx, string(f.ID)+"_"+strconv.Itoa(v.Number), v.Snapshot)
			}
			counts, err := w.server.Store.ExecutionCounts(ctx, f.ProjectID, f.ID)
			if err != nil {
				return nil, err
			}
			return asJSON(toVersion(v, counts))
		})
	register(w, api.Write, huma.Operation{OperationID: "delete-version", Method: http.MethodDelete, Path: "/v1/functions/{id}/versions/{version}", Tags: tags, Summary: "Delete a version"},
		func(ctx context.Context, in *struct {
			Query
			ByVersion
		},
		) (*struct{}, error) {
			f, err := w.own(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			n, err := in.number()
			if err != nil {
				return nil, err
			}
			err = w.server.RemoveVersion(ctx, f, n)
			return nil, conflicting(notFound(err, "FunctionVersion", "function_id=%s, version_number=%d", f.ID, n), "")
		})
}

// version finds a version of a function, and has an operator work in its project.
func (w *wire) version(ctx context.Context, in ByVersion) (f warpket.Function, v warpket.Version, _ context.Context, err error) {
	f, ctx, err = w.function(ctx, in.ID)
	if err != nil {
		return f, v, ctx, err
	}
	n, err := in.number()
	if err != nil {
		return f, v, ctx, err
	}
	v, err = w.server.Store.Version(ctx, f.ProjectID, f.ID, n)
	return f, v, ctx, notFound(err, "FunctionVersion", "function_id=%s, version_number=%d", f.ID, n)
}

func (w *wire) createVersion(ctx context.Context, in *struct {
	ByID
	Sent
},
) (*output[versionObject], error) {
	f, err := w.own(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	said, err := in.object("function_version", "description")
	if err != nil {
		return nil, err
	}
	description, err := said.text("description")
	if err != nil {
		return nil, err
	}
	v, err := w.server.PublishDraft(ctx, f, description, func(d warpket.Draft) error {
		switch {
		case codeOf(d.Snapshot).Source != packageSource:
			return forbidden("Function versioning only allowed for %s type function.", packageSource)
		case d.Versions >= maxVersions:
			return forbidden("Can not exceed maximum number(%d) of versions", maxVersions)
		case !d.Changed:
			return forbidden("Function package not changed since the latest version %d.", d.Newest)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &output[versionObject]{toVersion(v, nil)}, nil
}
