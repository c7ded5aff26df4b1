package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Draft is the code that a function's next version will have.
type Draft struct {
	FunctionID    string    `json:"functionId" doc:"ID of the function"`
	Changed       bool      `json:"changed" doc:"Whether it differs from the newest version; true before the first" example:"true"`
	NewestVersion int       `json:"newestVersion" doc:"Number of the newest version; 0 before the first" example:"1"`
	InDeployed    bool      `json:"inDeployed" doc:"Whether a deployment holds it"`
	Executions    int64     `json:"executions" doc:"How many executions drafts of the function have had"`
	Entry         string    `json:"entry" doc:"module.function that an execution of it calls; empty for an image" example:"handler.handler"`
	Digest        string    `json:"digest" doc:"SHA-256 over all that decides a result: files, entry and runtime, or image and command"`
	RuntimeID     string    `json:"runtimeId" doc:"ID of the runtime that it runs on"`
	Image         string    `json:"image,omitempty" doc:"Reference of its image, as it was given; absent for files" example:"registry.example/bell:1"`
	ImageDigest   string    `json:"imageDigest,omitempty" doc:"Digest that the reference stood for when the draft was set"`
	Command       []string  `json:"command,omitempty" nullable:"false" doc:"Program and arguments that run in the image; absent for the image's own"`
	Sources       []Source  `json:"sources" nullable:"false" doc:"Its files"`
	UpdatedDate   time.Time `json:"updatedDate" doc:"When it was set"`
}

// SetDraftRequest says what the draft is to be.
type SetDraftRequest struct {
	TemplateFiles []SourceFile `json:"templateFiles,omitempty" nullable:"false" maxItems:"1000" doc:"All its files: what is not listed is not carried over. A fileId may be of any version, or of the draft before. Needed unless the function comes as an image"`
	ImageSource
}

// PublishDraftRequest says how the draft is to be published.
type PublishDraftRequest struct {
	Description   string `json:"description,omitempty" maxLength:"4096" doc:"What is new in the version"`
	OnlyIfChanged bool   `json:"onlyIfChanged,omitempty" doc:"Refuse with 409 a draft that does not differ from the newest version"`
}

type draftOutput struct {
	ETag string `header:"ETag" doc:"For If-Match"`
	Body Draft
}

func (s *Server) addDrafts() {
	tags := []string{"Functions"}
	register(s, Read, huma.Operation{
		OperationID: "get-draft", Method: http.MethodGet, Path: "/v1/functions/{functionId}/draft", Tags: tags, Summary: "Get the draft of a function",
		Description: "The code that is being edited, with its files. While nobody has changed it, it is the newest version's.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *FunctionInput) (*draftOutput, error) {
		f, err := s.function(ctx, in.FunctionID)
		if err != nil {
			return nil, err
		}
		d, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
		if err != nil {
			return nil, err
		}
		return s.draftAnswer(ctx, d)
	}, byPath)
	register(s, Write, huma.Operation{
		OperationID: "set-draft", Method: http.MethodPut, Path: "/v1/functions/{functionId}/draft", Tags: tags, Summary: "Set the draft of a function",
		Description:  "Replaces the draft as a whole, within the bounds of a version. Executions that ask for the draft run it from then on; deployments of the draft get new slots for it, before the old ones go where there is room for both. What runs goes on with what it has begun with.",
		MaxBodyBytes: versionBody, BodyReadTimeout: time.Minute,
		Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity},
	}, s.setDraft, byPath)
	register(s, Write, huma.Operation{
		OperationID: "publish-draft", Method: http.MethodPost, Path: "/v1/functions/{functionId}/draft/publish", Tags: tags, Summary: "Publish the draft as a version", DefaultStatus: http.StatusOK,
		Description: "Gives it the next number. The draft stays what it is until it is set again.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, s.publishDraft, byPath)
	register(s, Write, huma.Operation{
		OperationID: "create-draft-deployment", Method: http.MethodPost, Path: "/v1/functions/{functionId}/draft/deployments", Tags: tags, Summary: "Deploy the draft", DefaultStatus: http.StatusOK,
		Description: "Keeps the draft ready on slots, as create-deployment does a version, and follows it when it is set. A draft that does not load fails its deployment. The deployment's version is 0.",
		Errors:      []int{http.StatusNotFound, http.StatusUnprocessableEntity}, Responses: accepted[Deployment](s, "Not settled yet: follow Location"),
	}, func(ctx context.Context, in *struct {
		FunctionInput
		HeldInput
		Body *CreateDeploymentRequest `required:"false"`
	},
	) (*deploymentOutput, error) {
		f, err := s.function(ctx, in.FunctionID)
		if err != nil {
			return nil, err
		}
		d, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
		if err != nil {
			return nil, err
		}
		return s.deploy(ctx, f, d.Version(), in.Body, in.Prefer)
	}, byPath)
}

// draftAnswer is a draft with its files and its count.
func (s *Server) draftAnswer(ctx context.Context, d warpket.Draft) (*draftOutput, error) {
	n := d.Snapshot
	counts, err := s.Store.ExecutionCounts(ctx, n.ProjectID, n.FunctionID)
	if err != nil {
		return nil, err
	}
	out := &draftOutput{ETag: etag(n.CreatedDate), Body: Draft{
		FunctionID: string(n.FunctionID), Changed: d.Changed, NewestVersion: d.Newest, InDeployed: d.Deployed, Executions: counts[n.FunctionID][warpket.DraftNumber],
		Entry: n.Entry, Digest: n.Digest, RuntimeID: string(n.RuntimeID), UpdatedDate: n.CreatedDate,
	}}
	if n.Image != nil {
		out.Body.Image, out.Body.ImageDigest, out.Body.Command = n.Image.Reference, n.Image.Digest(), n.Image.Command
	}
	out.Body.Sources, err = s.sources(ctx, n)
	return out, err
}

func (s *Server) setDraft(ctx context.Context, in *struct {
	FunctionInput
	MatchInput
	Body SetDraftRequest
},
) (*draftOutput, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	v, err := s.newVersion(ctx, f, CreateVersionRequest{TemplateFiles: in.Body.TemplateFiles, ImageSource: in.Body.ImageSource})
	if err != nil {
		return nil, err
	}
	defer s.targets.drop()
	d, err := s.Store.SetDraft(ctx, v.Snapshot, s.Now(), func(d warpket.Draft) error { return in.check("draft", d.Snapshot.CreatedDate) })
	if err != nil {
		return nil, err
	}
	return s.draftAnswer(ctx, d)
}

func (s *Server) publishDraft(ctx context.Context, in *struct {
	FunctionInput
	MatchInput
	Body *PublishDraftRequest `required:"false"`
},
) (*versionOutput, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	b := PublishDraftRequest{}
	if in.Body != nil {
		b = *in.Body
	}
	if err := warpket.CheckDescription(b.Description); err != nil {
		return nil, err
	}
	defer s.targets.drop()
	v, err := s.Store.PublishDraft(ctx, warpket.Version{ID: s.newID(ctx), ProjectID: f.ProjectID, FunctionID: f.ID, Description: b.Description, CreatedDate: s.Now()}, func(d warpket.Draft) error {
		if b.OnlyIfChanged && !d.Changed {
			return warpket.Errorf(warpket.Conflict, "the draft has not changed since version %d: set it first", d.Newest).At("onlyIfChanged")
		}
		return in.check("draft", d.Snapshot.CreatedDate)
	})
	if err != nil {
		return nil, err
	}
	return s.versionAnswer(ctx, v)
}
