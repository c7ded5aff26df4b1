package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Secret is a value that functions get in their environment and that is never
// answered.
type Secret struct {
	Name        string    `json:"name" doc:"Its name, unique in the project" example:"IBM_TOKEN"`
	UsedBy      []string  `json:"usedBy" nullable:"false" doc:"Names of the functions whose environment refers to it"`
	CreatedDate time.Time `json:"createdDate" doc:"When it was created"`
	UpdatedDate time.Time `json:"updatedDate" doc:"When its value was last set"`
}

func toSecret(s warpket.StoredSecret) Secret {
	return Secret{Name: s.Name, UsedBy: orEmpty(s.UsedBy), CreatedDate: s.CreatedDate, UpdatedDate: s.UpdatedDate}
}

func secretAnswer(s warpket.StoredSecret) *secretOutput {
	return &secretOutput{etag(s.UpdatedDate), toSecret(s)}
}

// CreateSecretRequest asks for a secret.
type CreateSecretRequest struct {
	Name  string `json:"name" maxLength:"64" pattern:"^[A-Za-z_][A-Za-z0-9_]*$" patternDescription:"A-Z, a-z, 0-9 and _, not starting with a digit" doc:"1 to 64 of A-Z, a-z, 0-9 and _, not starting with a digit; unique in the project" example:"IBM_TOKEN"`
	Value string `json:"value" maxLength:"65536" doc:"The value; at most 64 KiB. It is never answered"`
}

// UpdateSecretRequest changes the value of a secret.
type UpdateSecretRequest struct {
	Value string `json:"value" maxLength:"65536" doc:"The new value; at most 64 KiB. It is never answered"`
}

type (
	secretOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Secret
	}
	// SecretInput names a secret in a path. It is exported for huma, which
	// reads no other embedded fields.
	SecretInput struct {
		Name string `path:"name" maxLength:"64" doc:"Name of the secret" example:"IBM_TOKEN"`
	}
)

func (s *Server) addSecrets() {
	tags := []string{"Secrets"}
	register(s, Write, huma.Operation{
		OperationID: "list-secrets", Method: http.MethodGet, Path: "/v1/secrets", Tags: tags, Summary: "List secrets", Description: "Their names, never their values.",
	}, func(ctx context.Context, in *struct {
		PageInput
		NameInput
	},
	) (*listOutput[Secret], error) {
		if err := s.Secrets.Ready(); err != nil {
			return nil, err
		}
		name, err := in.condition()
		if err != nil {
			return nil, err
		}
		items, next, err := s.Store.Secrets(ctx, projectOf(ctx), name, in.page())
		return list(items, next, toSecret), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "create-secret", Method: http.MethodPost, Path: "/v1/secrets", Tags: tags, Summary: "Create a secret", DefaultStatus: http.StatusOK,
		Description: "The value is kept encrypted by a key of the project. Functions get it by an entry in their environment.", Errors: []int{http.StatusConflict, http.StatusRequestEntityTooLarge},
		Metadata: map[string]any{confidential: true},
	}, func(ctx context.Context, in *struct{ Body CreateSecretRequest }) (*secretOutput, error) {
		value, err := s.seal(ctx, in.Body.Name, in.Body.Value)
		if err != nil {
			return nil, err
		}
		now := s.Now()
		secret := warpket.StoredSecret{ID: s.newID(ctx), ProjectID: projectOf(ctx), Name: in.Body.Name, CreatedDate: now, UpdatedDate: now}
		return secretAnswer(secret), s.Store.CreateSecret(ctx, secret, value)
	}, wholeProject)
	register(s, Write, huma.Operation{
		OperationID: "get-secret", Method: http.MethodGet, Path: "/v1/secrets/{name}", Tags: tags, Summary: "Get a secret", Description: "Without its value.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *SecretInput) (*secretOutput, error) {
		if err := s.Secrets.Ready(); err != nil {
			return nil, err
		}
		secret, err := s.Store.Secret(ctx, projectOf(ctx), in.Name)
		return secretAnswer(secret), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "update-secret", Method: http.MethodPatch, Path: "/v1/secrets/{name}", Tags: tags, Summary: "Change the value of a secret",
		Description: "The slots of all functions that use it are replaced. " + revisionPromise,
		Errors:      []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge},
	}, func(ctx context.Context, in *struct {
		SecretInput
		MatchInput
		Body UpdateSecretRequest
	},
	) (*secretOutput, error) {
		value, err := s.seal(ctx, in.Name, in.Body.Value)
		if err != nil {
			return nil, err
		}
		defer s.targets.drop()
		secret, err := s.Store.ChangeSecret(ctx, projectOf(ctx), in.Name, value, s.Now(), func(now warpket.StoredSecret) error { return in.check("secret", now.UpdatedDate) })
		return secretAnswer(secret), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "delete-secret", Method: http.MethodDelete, Path: "/v1/secrets/{name}", Tags: tags, Summary: "Delete a secret", DefaultStatus: http.StatusNoContent,
		Description: "Refused while a function's environment, or its credentials, refer to it.", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *SecretInput) (*struct{}, error) {
		if err := s.Secrets.Ready(); err != nil {
			return nil, err
		}
		return nil, s.Store.DeleteSecret(ctx, projectOf(ctx), in.Name)
	}, wholeProject)
}

// seal checks and encrypts a value.
func (s *Server) seal(ctx context.Context, name, value string) (postgres.Sealed, error) {
	if err := warpket.CheckSecret(name, value); err != nil {
		return postgres.Sealed{}, err
	}
	ciphertext, err := s.Secrets.Seal(ctx, projectOf(ctx), name, value)
	return postgres.Sealed{Ciphertext: ciphertext, Size: len(value)}, err
}
