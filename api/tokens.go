package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Token is a credential of a project.
type Token struct {
	ID           string     `json:"id" doc:"ID of the token"`
	ProjectID    string     `json:"projectId" doc:"ID of its project"`
	Role         string     `json:"role" enum:"viewer,member,admin" doc:"viewer reads; member also creates, changes, deploys, executes and deletes; admin also manages members, tokens, secrets and quotas. Of a member whose role is less it does no more than that"`
	Name         string     `json:"name" doc:"What it is for" example:"notebook"`
	Description  string     `json:"description" doc:"More about what it is for" example:"Ada's laptop"`
	Functions    []string   `json:"functions,omitempty" doc:"IDs of the only functions that it reaches; absent when it reaches the whole project"`
	Member       string     `json:"member,omitempty" doc:"Name of the member that it was issued to; absent for a token of the project itself" example:"ada"`
	Token        string     `json:"token,omitempty" doc:"The token itself; only in the answer to its creation"`
	ExpiresDate  *time.Time `json:"expiresDate,omitempty" doc:"When it ceases to hold; absent when it does not by itself"`
	LastUsedDate *time.Time `json:"lastUsedDate,omitempty" doc:"When it was last used, to about a minute; absent when it never was"`
	CreatedDate  time.Time  `json:"createdDate" doc:"When it was created"`
}

func toToken(t warpket.Token) Token {
	return Token{
		ID: string(t.ID), ProjectID: string(t.ProjectID), Role: string(t.Role), Name: t.Name, Description: t.Description, Functions: texts(t.Functions), Member: t.Member,
		ExpiresDate: t.ExpiresDate, LastUsedDate: t.LastUsedDate, CreatedDate: t.CreatedDate,
	}
}

func texts(ids []warpket.ID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

// CreateTokenRequest asks for a token.
type CreateTokenRequest struct {
	ProjectID   string     `json:"projectId,omitempty" maxLength:"64" doc:"ID or name of the project; the caller's unless set. Only an operator may name another" example:"chemistry"`
	Role        string     `json:"role" enum:"viewer,member,admin" doc:"What it may do"`
	Name        string     `json:"name" minLength:"2" maxLength:"63" doc:"What it is for: 2 to 63 of a-z, 0-9 and -" example:"notebook"`
	Description string     `json:"description,omitempty" maxLength:"4096" doc:"More about what it is for" example:"Ada's laptop"`
	Functions   *[]string  `json:"functions,omitempty" maxItems:"100" doc:"IDs of the only functions that it is to reach, at least one; it then creates no functions and sees nothing else of the project. Leave it out for the whole project"`
	Member      string     `json:"member,omitempty" maxLength:"63" doc:"Name of the member that it is issued to: its role is at most the member's, and it ends with the member. Leave it out for a token of the project itself" example:"ada"`
	ExpiresDate *time.Time `json:"expiresDate,omitempty" doc:"When it is to cease to hold; never unless set"`
}

type (
	tokenOutput struct{ Body Token }
	// TokenInput names a token in a path. It is exported for huma, which reads no
	// other embedded fields.
	TokenInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the token"`
	}
)

func (s *Server) addTokens() {
	tags := []string{"Projects"}
	register(s, Manage, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/v1/tokens", Tags: tags, Summary: "List tokens", Description: "Those of the project that are in force, without their secrets.",
	}, func(ctx context.Context, in *struct {
		PageInput
		NameInput
		Member string `query:"member" maxLength:"63" doc:"Only those that were issued to this member"`
	},
	) (*listOutput[Token], error) {
		name, err := in.condition()
		if err != nil {
			return nil, err
		}
		items, next, err := s.Store.Tokens(ctx, projectOf(ctx), postgres.TokenFilter{Name: name, Member: plain(in.Member, 63)}, in.page())
		return list(items, next, toToken), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/v1/tokens", Tags: tags, Summary: "Create a token", DefaultStatus: http.StatusOK,
		Description: "The answer holds the token once; only its hash is kept.", Errors: []int{http.StatusNotFound},
	}, s.createToken, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "get-token", Method: http.MethodGet, Path: "/v1/tokens/{id}", Tags: tags, Summary: "Get a token", Description: "Without its secret.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *TokenInput) (*tokenOutput, error) {
		id, err := warpket.ParseID("token", in.ID)
		if err != nil {
			return nil, err
		}
		t, err := s.Store.ProjectToken(ctx, projectOf(ctx), id)
		return &tokenOutput{toToken(t)}, err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "delete-token", Method: http.MethodDelete, Path: "/v1/tokens/{id}", Tags: tags, Summary: "Revoke a token", DefaultStatus: http.StatusNoContent,
		Description: "It ceases to hold within a second on every server.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *TokenInput) (*struct{}, error) {
		id, err := warpket.ParseID("token", in.ID)
		if err != nil {
			return nil, err
		}
		defer s.tokens.drop()
		return nil, s.Store.RevokeToken(ctx, projectOf(ctx), id, s.Now())
	}, wholeProject)
}

func (s *Server) createToken(ctx context.Context, in *struct{ Body CreateTokenRequest }) (*tokenOutput, error) {
	b := in.Body
	project, err := s.projectAsked(ctx, b.ProjectID)
	if err != nil {
		return nil, err
	}
	secret := warpket.Secret()
	t := warpket.Token{
		ID: s.newID(ctx), ProjectID: project, Role: warpket.Role(b.Role), Name: b.Name, Description: b.Description, Member: plain(b.Member, 63),
		SecretHash: warpket.HashSecret(secret), ExpiresDate: b.ExpiresDate, CreatedDate: s.Now(),
	}
	if b.Functions != nil {
		t.Functions = []warpket.ID{}
		for i, text := range *b.Functions {
			id, err := warpket.ParseID("function", text)
			if err != nil {
				return nil, warpket.Errorf(warpket.Invalid, "this project has no function %q", clip(text, 80)).At("functions[%d]", i)
			}
			t.Functions = append(t.Functions, id)
		}
	}
	if err := t.Check(s.Now()); err != nil {
		return nil, err
	}
	out := toToken(t)
	out.Token = warpket.TokenText(t.ID, secret)
	return &tokenOutput{out}, s.Store.CreateToken(ctx, t)
}
