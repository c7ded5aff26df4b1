package qinling

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// identityPath is where clients that log in find what they know of Keystone: as
// much as it takes to come by a token, with any user and the token as the
// password. Nothing is issued: the subject token is the token itself, with the
// project that the scope names.
const identityPath = "/identity/v3"

type (
	identityVersion struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Links  []struct {
			Rel  string `json:"rel"`
			Href string `json:"href"`
		} `json:"links"`
	}
	named struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	domained struct {
		named
		Domain named `json:"domain"`
	}
	endpoint struct {
		ID        string `json:"id"`
		Interface string `json:"interface"`
		Region    string `json:"region"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
	}
	service struct {
		ID        string     `json:"id"`
		Type      string     `json:"type"`
		Name      string     `json:"name"`
		Endpoints []endpoint `json:"endpoints"`
	}
	issued struct {
		Methods   []string  `json:"methods"`
		User      domained  `json:"user"`
		Project   domained  `json:"project"`
		Roles     []named   `json:"roles"`
		Catalog   []service `json:"catalog"`
		IssuedAt  string    `json:"issued_at"`
		ExpiresAt string    `json:"expires_at"`
	}
	issuedOutput struct {
		Status  int
		Subject string `header:"X-Subject-Token"`
		Body    struct {
			Token issued `json:"token"`
		}
	}
)

// credentials are what a request for a token says: a password, the secret of an
// application credential, or a token.
type credentials struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods"`
			Password struct {
				User struct {
					Name     string `json:"name"`
					ID       string `json:"id"`
					Password string `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Application struct {
				Secret string `json:"secret"`
			} `json:"application_credential"`
			Token struct {
				ID string `json:"id"`
			} `json:"token"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth"`
}

func (w *wire) addIdentity() {
	tags := []string{"Identity"}
	version := func(base string) identityVersion {
		v := identityVersion{ID: "v3.14", Status: "stable"}
		v.Links = append(v.Links, struct {
			Rel  string `json:"rel"`
			Href string `json:"href"`
		}{"self", base + identityPath + "/"})
		return v
	}
	type identityVersions struct {
		Versions struct {
			Values []identityVersion `json:"values"`
		} `json:"versions"`
	}
	type one struct {
		Version identityVersion `json:"version"`
	}
	register(w, api.Public, huma.Operation{OperationID: "get-identity-versions", Method: http.MethodGet, Path: "/identity", Tags: tags, Summary: "Show the versions of the identity API"},
		func(_ context.Context, in *struct{ Query }) (*output[identityVersions], error) {
			out := &output[identityVersions]{}
			out.Body.Versions.Values = []identityVersion{version(in.base)}
			return out, nil
		})
	register(w, api.Public, huma.Operation{OperationID: "get-identity", Method: http.MethodGet, Path: identityPath, Tags: tags, Summary: "Show the identity API"},
		func(_ context.Context, in *struct{ Query }) (*output[one], error) {
			return &output[one]{one{version(in.base)}}, nil
		})
	register(w, api.Public, huma.Operation{OperationID: "create-identity-token", Method: http.MethodPost, Path: identityPath + "/auth/tokens", Tags: tags, Summary: "Log in with a token as the password", DefaultStatus: http.StatusCreated}, w.logIn)
	register(w, api.Read, huma.Operation{OperationID: "get-identity-token", Method: http.MethodGet, Path: identityPath + "/auth/tokens", Tags: tags, Summary: "Show a token"},
		func(ctx context.Context, in *struct{ Query }) (*issuedOutput, error) {
			subject := in.head.Get("X-Subject-Token")
			if subject != in.head.Get("X-Auth-Token") {
				return nil, newFault(http.StatusNotFound, "Only a token itself is shown what it is.")
			}
			return w.issue(ctx, api.CallerOf(ctx), subject, "", in.base, http.StatusOK)
		})
}

func (w *wire) logIn(ctx context.Context, in *Sent) (*issuedOutput, error) {
	var c credentials
	if json.Unmarshal(in.RawBody, &c) != nil || len(c.Auth.Identity.Methods) == 0 {
		return nil, invalid("The body is to be {\"auth\": {\"identity\": {\"methods\": [\"password\"], ...}}}")
	}
	i := c.Auth.Identity
	var token string
	switch method := i.Methods[0]; method {
	case "password":
		token = i.Password.User.Password
	case "application_credential":
		token = i.Application.Secret
	case "token":
		token = i.Token.ID
	default:
		return nil, newFault(http.StatusUnauthorized, "The method "+clip(method)+" is not known: password, application_credential and token are, and all take a token of warpket.")
	}
	token, _, _ = strings.Cut(token, ":")
	var scope struct {
		Project struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"project"`
	}
	_ = json.Unmarshal(c.Auth.Scope, &scope) // "unscoped" is a text
	project := scope.Project.ID
	if project == "" {
		project = scope.Project.Name
	}
	caller := w.server.Identify(ctx, token, project)
	if caller.Err != nil {
		if warpket.KindOf(caller.Err) == warpket.Unavailable {
			return nil, caller.Err
		}
		return nil, newFault(http.StatusUnauthorized, "The request you have made requires authentication: the password is to be a valid token of warpket, and the project one that it is for.")
	}
	if project != "" && caller.Role == warpket.Operator {
		token += ":" + project
	}
	if p, err := w.server.Store.Project(ctx, string(caller.Project)); err != nil {
		return nil, err
	} else if project != "" && project != string(p.ID) && project != p.Name {
		return nil, newFault(http.StatusUnauthorized, "The token is not for this project.")
	}
	name := i.Password.User.Name
	if name == "" {
		name = i.Password.User.ID
	}
	return w.issue(ctx, caller, token, name, in.base, http.StatusCreated)
}

// issue tells who a token is, and where Qinling is.
func (w *wire) issue(ctx context.Context, caller api.Caller, token, user, base string, status int) (*issuedOutput, error) {
	p, err := w.server.Store.Project(ctx, string(caller.Project))
	if err != nil {
		return nil, err
	}
	role := "member"
	if caller.Role == warpket.Operator {
		role = "admin"
	}
	if user == "" {
		user = role
	}
	everywhere := func(kind, name, url string) service {
		s := service{ID: name, Type: kind, Name: name}
		for _, i := range []string{"public", "internal", "admin"} {
			s.Endpoints = append(s.Endpoints, endpoint{ID: name + "-" + i, Interface: i, Region: "RegionOne", RegionID: "RegionOne", URL: url})
		}
		return s
	}
	now, domain := w.server.Now(), named{"default", "Default"}
	out := &issuedOutput{Status: status, Subject: token}
	out.Body.Token = issued{
		Methods: []string{"password"}, User: domained{named{user, user}, domain}, Project: domained{named{string(p.ID), p.Name}, domain}, Roles: []named{{role, role}},
		Catalog:  []service{everywhere("function-engine", "qinling", base), everywhere("identity", "keystone", base+identityPath)},
		IssuedAt: keystoneTime(now), ExpiresAt: keystoneTime(now.Add(time.Hour)),
	}
	return out, nil
}

func keystoneTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
