package warpket

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Project is a tenant: everything but public templates and runtimes belongs to one.
type Project struct {
	ID          ID
	Name        string
	AllowEgress bool // whether its functions may ask for the network
	CreatedDate time.Time
	Description string
	UpdatedDate time.Time
	Weight      float64 // its share of the fleet beside other projects
	MaxPriority int     // up to which its priorities count beside other projects
}

// DefaultProject is the name of the project that an operator works in unless
// it names another.
const DefaultProject = "default"

// Role says what a token may do in its project.
type Role string

// The roles. Each of the first three includes the one before.
const (
	Viewer   Role = "viewer"   // reads
	Member   Role = "member"   // also creates, changes, deploys, executes and deletes
	Admin    Role = "admin"    // also tokens, members, secrets and quotas
	Operator Role = "operator" // belongs to no project and may do all
)

var rank = map[Role]int{Viewer: 1, Member: 2, Admin: 3, Operator: 4}

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return rank[r] > 0 }

// Includes reports whether r may do whatever other may.
func (r Role) Includes(other Role) bool { return r.Valid() && rank[r] >= rank[other] }

// Token is a credential. Only the hash of its secret is kept.
type Token struct {
	ID           ID
	ProjectID    ID // empty for an operator's
	Role         Role
	Name         string
	SecretHash   []byte
	CreatedDate  time.Time
	RevokedDate  *time.Time
	Description  string
	Functions    []ID   // the only ones that it reaches; nil for all of its project
	Member       string // name of whom it was issued to; empty for the project's own
	MemberRole   Role   // of that member
	ExpiresDate  *time.Time
	LastUsedDate *time.Time // to about a minute
}

// ProjectMember is a person in a project. Tokens that are issued to one may do no more
// than the member, and end with it.
type ProjectMember struct {
	ID          ID
	ProjectID   ID
	Name        string
	Email       string // may be empty
	Role        Role
	CreatedDate time.Time
	UpdatedDate time.Time
}

// Check reports what of m is out of bounds.
func (m ProjectMember) Check() error {
	if err := CheckName("member", m.Name); err != nil {
		return err
	}
	if m.Role == Operator || !m.Role.Valid() {
		return Errorf(Invalid, "a member is a viewer, a member or an admin, not %q", m.Role).At("role")
	}
	if a, err := mail.ParseAddress(m.Email); m.Email != "" && (err != nil || a.Address != m.Email || len(m.Email) > 254) {
		return Errorf(Invalid, "%.80q is not an address such as ada@example.org", m.Email).At("email")
	}
	return nil
}

// Secret is 256 random bits in hexadecimal: too many to guess, so a plain hash
// of it may be kept.
func Secret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// HashSecret is what is kept of a secret.
func HashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// TokenText is the text that a client sends for a token.
func TokenText(id ID, secret string) string {
	return "wk_" + strings.ReplaceAll(string(id), "-", "") + "_" + secret
}

// ParseToken splits the text of a token. The message is the same whatever is
// wrong, so that it helps nobody to guess.
func ParseToken(text string) (id ID, secret string, err error) {
	hexID, secret, ok := strings.Cut(strings.TrimPrefix(text, "wk_"), "_")
	if !ok || !strings.HasPrefix(text, "wk_") || len(hexID) != 32 || len(secret) != 64 {
		return "", "", ErrBadToken()
	}
	id, err = ParseID("token", hexID[:8]+"-"+hexID[8:12]+"-"+hexID[12:16]+"-"+hexID[16:20]+"-"+hexID[20:])
	if err != nil {
		return "", "", ErrBadToken()
	}
	return id, secret, nil
}

// ErrBadToken is the answer to every token that does not hold.
func ErrBadToken() *Error {
	return Errorf(Unauthenticated, "this token is not valid: send a current one as \"Authorization: Bearer wk_...\"")
}

// Holds reports whether the secret is the token's and the token is in force.
func (t *Token) Holds(secret string, now time.Time) bool {
	return subtle.ConstantTimeCompare(t.SecretHash, HashSecret(secret)) == 1 && t.RevokedDate == nil && (t.ExpiresDate == nil || now.Before(*t.ExpiresDate))
}

// Acts is the role that the token has now: its own, or that of its member
// when that is less.
func (t *Token) Acts() Role {
	if t.Member != "" && t.Role.Includes(t.MemberRole) {
		return t.MemberRole
	}
	return t.Role
}

// Reaches reports whether the token is good for a function of its project.
func (t *Token) Reaches(function ID) bool {
	return t.Functions == nil || slices.Contains(t.Functions, function)
}

// MaxTokenFunctions is how many functions one token may name.
const MaxTokenFunctions = 100

// Check reports what of a token that is asked for is out of bounds.
func (t *Token) Check(now time.Time) error {
	if err := CheckName("token", t.Name); err != nil {
		return err
	}
	switch {
	case t.ExpiresDate != nil && !t.ExpiresDate.After(now):
		return Errorf(Invalid, "a token that expired at %s would never hold: give a time to come, or none", t.ExpiresDate.Format(time.RFC3339)).At("expiresDate")
	case t.Functions != nil && len(t.Functions) == 0:
		return Errorf(Invalid, "a token for no functions can do nothing: name at least one, or leave functions out for all of the project").At("functions")
	case len(t.Functions) > 0 && t.Role == Admin:
		return Errorf(Invalid, "an admin's token is for the whole project: take the role member, or leave functions out").At("functions")
	}
	return CheckDescription(t.Description)
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,62}$`)

// CheckName checks the name of a function, project or token.
func CheckName(what, name string) error {
	if !nameForm.MatchString(name) {
		return Errorf(Invalid, "%q cannot name a %s: use 2 to 63 of a-z, 0-9 and -, not starting with -", name, what)
	}
	return nil
}
