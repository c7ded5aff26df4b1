package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Member is a person in a project.
type Member struct {
	Name        string    `json:"name" doc:"Name, unique in the project" example:"ada"`
	Email       string    `json:"email,omitempty" doc:"Address, for people to know who it is" example:"ada@example.org"`
	Role        string    `json:"role" enum:"viewer,member,admin" doc:"The most that their tokens may do"`
	CreatedDate time.Time `json:"createdDate" doc:"When they were added"`
	UpdatedDate time.Time `json:"updatedDate" doc:"When this last changed"`
}

func toMember(m warpket.ProjectMember) Member {
	return Member{Name: m.Name, Email: m.Email, Role: string(m.Role), CreatedDate: m.CreatedDate, UpdatedDate: m.UpdatedDate}
}

// CreateMemberRequest asks for a member.
type CreateMemberRequest struct {
	Name  string `json:"name" minLength:"2" maxLength:"63" doc:"2 to 63 of a-z, 0-9 and -, unique in the project" example:"ada"`
	Email string `json:"email,omitempty" maxLength:"254" doc:"Address, for people to know who it is" example:"ada@example.org"`
	Role  string `json:"role" enum:"viewer,member,admin" doc:"The most that their tokens may do"`
}

// UpdateMemberRequest changes what it sets.
type UpdateMemberRequest struct {
	Email *string `json:"email,omitempty" maxLength:"254" doc:"Address; empty for none"`
	Role  string  `json:"role,omitempty" enum:"viewer,member,admin" doc:"The most that their tokens may do, those that there are included"`
}

type (
	// MemberInput names a member in a path. It is exported for huma, which reads
	// no other embedded fields.
	MemberInput struct {
		ProjectInput
		Name string `path:"name" maxLength:"63" doc:"Name of the member" example:"ada"`
	}
	memberOutput struct {
		ETag string `header:"ETag" doc:"For If-Match"`
		Body Member
	}
)

func memberAnswer(m warpket.ProjectMember) *memberOutput {
	return &memberOutput{ETag: etag(m.UpdatedDate), Body: toMember(m)}
}

func (s *Server) addMembers() {
	tags := []string{"Projects"}
	const members = "/v1/projects/{id}/members"
	register(s, Manage, huma.Operation{
		OperationID: "list-members", Method: http.MethodGet, Path: members, Tags: tags, Summary: "List members", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ProjectInput
		PageInput
		NameInput
	},
	) (*listOutput[Member], error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		name, err := in.condition()
		if err != nil {
			return nil, err
		}
		items, next, err := s.Store.Members(ctx, p.ID, name, in.page())
		return list(items, next, toMember), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "create-member", Method: http.MethodPost, Path: members, Tags: tags, Summary: "Add a member", DefaultStatus: http.StatusOK,
		Description: "A member is a person by name. Tokens that name one are theirs: these do no more than the member's role, and end when the member is removed.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *struct {
		ProjectInput
		Body CreateMemberRequest
	},
	) (*memberOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		now := s.Now()
		m := warpket.ProjectMember{ID: s.newID(ctx), ProjectID: p.ID, Name: in.Body.Name, Email: in.Body.Email, Role: warpket.Role(in.Body.Role), CreatedDate: now, UpdatedDate: now}
		if err := m.Check(); err != nil {
			return nil, err
		}
		return memberAnswer(m), s.Store.CreateMember(ctx, m)
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "get-member", Method: http.MethodGet, Path: members + "/{name}", Tags: tags, Summary: "Get a member", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *MemberInput) (*memberOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		m, err := s.Store.Member(ctx, p.ID, plain(in.Name, 63))
		return memberAnswer(m), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "update-member", Method: http.MethodPatch, Path: members + "/{name}", Tags: tags, Summary: "Change a member",
		Description: "A lesser role holds for all their tokens within a second on every server.", Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		MemberInput
		MatchInput
		Body UpdateMemberRequest
	},
	) (*memberOutput, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		defer s.tokens.drop()
		m, err := s.Store.UpdateMember(ctx, p.ID, plain(in.Name, 63), s.Now(), func(m *warpket.ProjectMember) error {
			if err := in.check("member", m.UpdatedDate); err != nil {
				return err
			}
			if in.Body.Email != nil {
				m.Email = *in.Body.Email
			}
			if in.Body.Role != "" {
				m.Role = warpket.Role(in.Body.Role)
			}
			return m.Check()
		})
		return memberAnswer(m), err
	}, wholeProject)
	register(s, Manage, huma.Operation{
		OperationID: "delete-member", Method: http.MethodDelete, Path: members + "/{name}", Tags: tags, Summary: "Remove a member", DefaultStatus: http.StatusNoContent,
		Description: "All their tokens cease to hold, within a second on every server.", Errors: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, in *struct {
		MemberInput
		MatchInput
	},
	) (*struct{}, error) {
		p, err := s.projectNamed(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		defer s.tokens.drop()
		return nil, s.Store.DeleteMember(ctx, p.ID, plain(in.Name, 63), s.Now(), func(m warpket.ProjectMember) error { return in.check("member", m.UpdatedDate) })
	}, wholeProject)
}
