package qinling

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type webhookObject struct {
	ID              string  `json:"id"`
	FunctionAlias   *string `json:"function_alias"`
	FunctionID      *string `json:"function_id"`
	FunctionVersion *int    `json:"function_version" doc:"Null with an alias, and where natively the newest is meant"`
	Description     *string `json:"description"`
	ProjectID       string  `json:"project_id"`
	CreatedAt       string  `json:"created_at"`
	UpdatedAt       *string `json:"updated_at"`
	WebhookURL      string  `json:"webhook_url"`
}

func toWebhook(h warpket.Webhook, base string) webhookObject {
	return webhookObject{
		ID: string(h.ID), FunctionAlias: orNull(h.Alias), FunctionID: orNull(h.FunctionID), FunctionVersion: h.Version, Description: orNull(h.Description), ProjectID: string(h.ProjectID),
		CreatedAt: timestamp(h.CreatedDate), UpdatedAt: updated(h.CreatedDate, h.UpdatedDate), WebhookURL: base + "/v1/webhooks/" + string(h.ID) + "/invoke",
	}
}

func (w *wire) addWebhooks() {
	type webhooks struct {
		Webhooks []webhookObject `json:"webhooks"`
	}
	type invoked struct {
		Location string `header:"Location"`
		Body     struct {
			ExecutionID string `json:"execution_id"`
		}
	}
	tags := []string{"Webhooks"}
	register(w, api.Write, huma.Operation{OperationID: "list-webhooks", Method: http.MethodGet, Path: "/v1/webhooks", Tags: tags, Summary: "List webhooks", Metadata: ofProjects()},
		func(ctx context.Context, in *struct{ Query }) (*output[webhooks], error) {
			projects, err := w.projects(ctx, &in.Query)
			if err != nil {
				return nil, err
			}
			found, err := list(ctx, projects, func(h warpket.Webhook) warpket.ID { return h.ID }, always,
				func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Webhook, string, error) {
					return w.server.Store.Webhooks(ctx, project, postgres.WebhookFilter{}, page)
				})
			out := webhooks{Webhooks: []webhookObject{}}
			for _, h := range found {
				out.Webhooks = append(out.Webhooks, toWebhook(h, in.base))
			}
			return &output[webhooks]{out}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "create-webhook", Method: http.MethodPost, Path: "/v1/webhooks", Tags: tags, Summary: "Create a webhook", DefaultStatus: http.StatusCreated}, w.createWebhook)
	register(w, api.Write, huma.Operation{OperationID: "get-webhook", Method: http.MethodGet, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Show a webhook"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[webhookObject], error) {
			h, _, err := w.webhook(ctx, in.ByID)
			return &output[webhookObject]{toWebhook(h, in.base)}, err
		})
	register(w, api.Write, huma.Operation{OperationID: "update-webhook", Method: http.MethodPut, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Update a webhook"}, w.updateWebhook)
	register(w, api.Write, huma.Operation{OperationID: "delete-webhook", Method: http.MethodDelete, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Delete a webhook"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*struct{}, error) {
			h, ctx, err := w.webhook(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			return nil, w.server.RemoveWebhook(ctx, h.ID)
		})
	register(w, api.Public, huma.Operation{OperationID: "invoke-webhook", Method: http.MethodPost, Path: "/v1/webhooks/{id}/invoke", Tags: tags, Summary: "Invoke a webhook, without a token", DefaultStatus: http.StatusAccepted},
		func(ctx context.Context, in *struct {
			ByID
			Sent
		},
		) (*invoked, error) {
			id, err := in.parse()
			if err != nil {
				return nil, err
			}
			e, _, err := w.server.Invoke(ctx, string(id), in.head, in.raw, in.RawBody, in.arguments)
			if err != nil {
				return nil, notFound(err, "Webhook", "id=%s", id)
			}
			out := &invoked{Location: in.base + "/v1/executions/" + string(e.ID)}
			out.Body.ExecutionID = string(e.ID)
			return out, nil
		})
}

// arguments are what a function gets from a webhook: the object or the form of
// the body as its parameters.
func (b *Sent) arguments() (api.Any, error) {
	if len(b.RawBody) == 0 {
		return inputOf("", false), nil
	}
	if kind, _, _ := mime.ParseMediaType(b.kind); kind == "application/x-www-form-urlencoded" || kind == "multipart/form-data" {
		said, err := b.either()
		if err != nil {
			return nil, err
		}
		return json.Marshal(said.values)
	}
	return inputOf(string(b.RawBody), true), nil
}

// webhook finds a webhook, and has an operator work in its project.
func (w *wire) webhook(ctx context.Context, in ByID) (h warpket.Webhook, _ context.Context, err error) {
	id, err := in.parse()
	if err != nil {
		return h, ctx, err
	}
	caller := api.CallerOf(ctx)
	if caller.Role == warpket.Operator {
		if h, err = w.server.Store.WebhookByID(ctx, id); err == nil {
			ctx, err = api.In(ctx, h.ProjectID)
		}
	} else {
		h, err = w.server.Store.Webhook(ctx, caller.Project, id)
	}
	return h, ctx, notFound(err, "Webhook", "id=%s", id)
}

// aim has a webhook execute a target.
func (t target) aim(h *warpket.Webhook) {
	h.FunctionID, h.Version, h.Alias = "", nil, t.alias
	if t.alias == "" {
		h.FunctionID, h.Version = t.function.ID, &t.version
	}
}

func (w *wire) createWebhook(ctx context.Context, in *Sent) (*output[webhookObject], error) {
	said, err := in.object("webhook", "function_id", "function_version", "function_alias", "description")
	if err != nil {
		return nil, err
	}
	description, err := said.text("description")
	if err != nil {
		return nil, err
	}
	t, err := w.target(ctx, said)
	if err != nil {
		return nil, err
	}
	now := w.server.Now()
	h := warpket.Webhook{ID: w.server.NewID(ctx), ProjectID: t.function.ProjectID, Description: description, RatePerMinute: warpket.MaxRatePerMinute, CreatedDate: now, UpdatedDate: now}
	t.aim(&h)
	err = w.server.AddWebhook(ctx, h)
	return &output[webhookObject]{toWebhook(h, in.base)}, err
}

func (w *wire) updateWebhook(ctx context.Context, in *struct {
	ByID
	Sent
},
) (*output[webhookObject], error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	before, err := w.server.Store.Webhook(ctx, api.CallerOf(ctx).Project, id) // its owner's only
	if err != nil {
		return nil, notFound(err, "Webhook", "id=%s", id)
	}
	said, err := in.object("webhook", "function_id", "function_version", "function_alias", "description")
	if err != nil {
		return nil, err
	}
	description, err := said.text("description")
	if err != nil {
		return nil, err
	}
	var t *target
	if said.has("function_id") || said.has("function_alias") || said.has("function_version") {
		if !said.has("function_id") && !said.has("function_alias") {
			if before.FunctionID == "" {
				return nil, invalid("function_version is for a function, and the webhook has an alias: give function_id, too.")
			}
			said.values["function_id"] = string(before.FunctionID)
		}
		found, err := w.target(ctx, said)
		if err != nil {
			return nil, err
		}
		t = &found
	}
	h, err := w.server.ChangeWebhook(ctx, id, func(h *warpket.Webhook) error {
		if said.has("description") {
			h.Description = description
		}
		if t != nil {
			t.aim(h)
		}
		return nil
	})
	return &output[webhookObject]{toWebhook(h, in.base)}, notFound(err, "Webhook", "id=%s", id)
}
