package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// QuotaLimits are the bounds of a project.
type QuotaLimits struct {
	Functions  *int64 `json:"functions,omitempty" minimum:"0" maximum:"1000000000" doc:"Functions" example:"100"`
	Slots      *int64 `json:"slots,omitempty" minimum:"0" maximum:"1000000000" doc:"Slots: those that its deployments want together, and those that it holds, on demand too" example:"16"`
	Executions *int64 `json:"executions,omitempty" minimum:"0" maximum:"1000000000" doc:"Executions that are queued or running. A server knows of others' a second late, so in that time each may admit what it saw to be free" example:"200"`
	Waiting    *int64 `json:"waiting,omitempty" minimum:"0" maximum:"1000000000" doc:"Executions that are queued. Of express ones, no server lets more than 1000 of a project wait in any case" example:"1000"`
	CPUSeconds *int64 `json:"cpuSeconds,omitempty" minimum:"0" maximum:"9007199254740991" doc:"Seconds on processors in a month (UTC). What runs when they are used up goes on; they are counted when an execution ends, and known a minute later" example:"360000"`
	GPUSeconds *int64 `json:"gpuSeconds,omitempty" minimum:"0" maximum:"9007199254740991" doc:"Seconds for which slots hold GPUs in a month (UTC), by how many. When they are used up nothing new is executed" example:"36000"`
	Storage    *int64 `json:"storage,omitempty" minimum:"0" maximum:"9007199254740991" doc:"Bytes of files, their history, inputs, results and logs. When they are used up nothing is stored or executed; results of what runs are kept all the same" example:"10737418240"`
}

// of ties each limit to its field.
func (l *QuotaLimits) of(what warpket.Limit) **int64 {
	switch what {
	case warpket.FunctionLimit:
		return &l.Functions
	case warpket.SlotLimit:
		return &l.Slots
	case warpket.ExecutionLimit:
		return &l.Executions
	case warpket.WaitingLimit:
		return &l.Waiting
	case warpket.CPULimit:
		return &l.CPUSeconds
	case warpket.GPULimit:
		return &l.GPUSeconds
	default:
		return &l.Storage
	}
}

func toLimits(m map[warpket.Limit]int64) (out QuotaLimits) {
	for _, l := range warpket.Limits {
		if n, ok := m[l]; ok {
			*out.of(l) = &n
		}
	}
	return out
}

func (l QuotaLimits) domain() map[warpket.Limit]int64 {
	out := map[warpket.Limit]int64{}
	for _, what := range warpket.Limits {
		if n := *l.of(what); n != nil {
			out[what] = *n
		}
	}
	return out
}

// Quota says what a project may have and what it has.
type Quota struct {
	ProjectID   string      `json:"projectId" doc:"ID of the project"`
	Limits      QuotaLimits `json:"limits" doc:"What holds: the project's own, and the default where that is open. What is absent is not bounded"`
	Own         QuotaLimits `json:"own" doc:"What an operator has set for this project"`
	Used        QuotaLimits `json:"used" doc:"What there is of each now"`
	UpdatedDate time.Time   `json:"updatedDate" doc:"When its own last changed; 0001-01-01 if they never were set"`
}

// DefaultQuota is what holds for projects where their own quota is open.
type DefaultQuota struct {
	Limits      QuotaLimits `json:"limits" doc:"What is absent is not bounded"`
	UpdatedDate time.Time   `json:"updatedDate" doc:"When it last changed; 0001-01-01 if it never was set"`
}

type (
	quotaOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Quota
	}
	defaultQuotaOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body DefaultQuota
	}
)

func (s *Server) addQuotas() {
	tags := []string{"Quotas"}
	const overQuota = " What exceeds a limit is answered 429 over_quota, with Retry-After."
	register(s, Read, huma.Operation{
		OperationID: "get-quotas", Method: http.MethodGet, Path: "/v1/quotas", Tags: tags, Summary: "Get the quota of the project",
		Description: "What the project may have and what it has." + overQuota,
	}, func(ctx context.Context, _ *struct{}) (*quotaOutput, error) {
		return s.quotaOf(ctx, projectOf(ctx))
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "get-default-quotas", Method: http.MethodGet, Path: "/v1/quotas/default", Tags: tags, Summary: "Get the default quota",
	}, func(ctx context.Context, _ *struct{}) (*defaultQuotaOutput, error) {
		q, err := s.Store.Quota(ctx, "")
		return defaultQuotaAnswer(q), err
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "set-default-quotas", Method: http.MethodPut, Path: "/v1/quotas/default", Tags: tags, Summary: "Set the default quota",
		Description: "Replaces it as a whole. It holds where a project's own is open." + overQuota, Errors: []int{http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		MatchInput
		Body QuotaLimits
	},
	) (*defaultQuotaOutput, error) {
		q, err := s.setQuota(ctx, "", in.MatchInput, in.Body)
		return defaultQuotaAnswer(q), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "get-project-quotas", Method: http.MethodGet, Path: "/v1/projects/{id}/quotas", Tags: tags, Summary: "Get the quota of a project",
		Description: "An admin may get the own project's, an operator any.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *ProjectInput) (*quotaOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return s.quotaOf(ctx, p.ID)
	}, wholeProject)
	register(s, Operate, huma.Operation{
		OperationID: "set-project-quotas", Method: http.MethodPut, Path: "/v1/projects/{id}/quotas", Tags: tags, Summary: "Set the quota of a project",
		Description: "Replaces the project's own limits as a whole; what is left out is the default's. A limit below what is used takes nothing away. It holds for executions within a second, for all else at once." + overQuota,
		Errors:      []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		ProjectInput
		MatchInput
		Body QuotaLimits
	},
	) (*quotaOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if _, err := s.setQuota(ctx, p.ID, in.MatchInput, in.Body); err != nil {
			return nil, err
		}
		return s.quotaOf(ctx, p.ID)
	}, wholeProject)
}

func defaultQuotaAnswer(q warpket.Quota) *defaultQuotaOutput {
	return &defaultQuotaOutput{etag(q.UpdatedDate), DefaultQuota{toLimits(q.Limits), q.UpdatedDate}}
}

func (s *Server) setQuota(ctx context.Context, project warpket.ID, match MatchInput, limits QuotaLimits) (warpket.Quota, error) {
	return s.Store.SetQuota(ctx, project, s.Now(), func(q *warpket.Quota) error {
		q.Limits = limits.domain()
		return match.check("quota", q.UpdatedDate)
	})
}

func (s *Server) quotaOf(ctx context.Context, project warpket.ID) (*quotaOutput, error) {
	own, err := s.Store.Quota(ctx, project)
	if err != nil {
		return nil, err
	}
	general, err := s.Store.Quota(ctx, "")
	if err != nil {
		return nil, err
	}
	used, err := s.Store.Used(ctx, project, s.Now())
	return &quotaOutput{etag(own.UpdatedDate), Quota{string(project), toLimits(own.Or(general).Limits), toLimits(own.Limits), toLimits(used), own.UpdatedDate}}, err
}
