package warpket

import (
	"cmp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Runtime is one SDK at one version, ready to run: a locked, hashed environment.
// There is one build for a key. Versions that come as an image share one that
// is empty, see ImageRuntime. A runtime that somebody has created has a name,
// and is made of a build or of an image.
type Runtime struct {
	ID ID
	RuntimeKey
	ProjectID   ID        // whose it alone is; empty for a shared one
	Lines       []string  // of its version's requirements.txt, see ParseRequirements
	TemplateTag string    // the template whose packages and smoke run it has
	LockedUntil time.Time // packages released later are not in its lock; zero for no such bound
	Status      RuntimeStatus
	Lock        string // the locked requirements with hashes; empty until locked
	Message     string // progress, or why it failed
	CreatedDate time.Time
	UpdatedDate time.Time

	// Of one that somebody has created:
	Name        string
	Description string
	Public      bool   // whether all projects may see and use it
	Trusted     bool   // false: its functions run only where isolation is complete. Builds are trusted
	BaseID      ID     // the build that it is made of, whose key, lock and status it has; empty for an image
	Image       *Image // that it is made of; nil for a build
	Credentials string // name of the secret that the image's registry is given; may be empty
	Revision    int    // grows each time that it is made of something else
}

// RuntimeKey says what a runtime is made of; there is one runtime for a key.
type RuntimeKey struct {
	SDK          string // "qiskit"
	SDKVersion   string // "0.45.3"
	Python       string // "3.11"
	Platform     string // "linux/amd64"
	Requirements string // digest of a project and its version's own requirements; empty for none
}

// String is the key as text: the ID of the workflow that builds the runtime
// and the name of its folder.
func (k RuntimeKey) String() string {
	s := strings.Join([]string{"runtime", k.SDK, k.SDKVersion, "py" + k.Python, strings.ReplaceAll(k.Platform, "/", "-")}, "/")
	if k.Requirements != "" {
		s += "/" + k.Requirements
	}
	return s
}

// RuntimeStatus says how far a runtime is.
type RuntimeStatus string

// The statuses of a runtime. A failed one is built anew when it is asked for again.
const (
	RuntimePending   RuntimeStatus = "pending"
	RuntimeBuilding  RuntimeStatus = "building"
	RuntimeAvailable RuntimeStatus = "available"
	RuntimeFailed    RuntimeStatus = "failed"
)

// Created reports whether somebody has created the runtime; else it is a build.
func (r Runtime) Created() bool { return r.BaseID != "" || r.Image != nil }

// BuildID is the ID of what is built for the runtime: whose status it has.
func (r Runtime) BuildID() ID {
	if r.BaseID != "" {
		return r.BaseID
	}
	return r.ID
}

// Settled reports whether a runtime with this status waits for nothing.
func (s RuntimeStatus) Settled() bool { return s == RuntimeAvailable || s == RuntimeFailed }

// MaxRuntimeName is how many bytes the name of a runtime may have.
const MaxRuntimeName = 255

// Check reports what of a created runtime cannot be.
func (r Runtime) Check() error {
	switch {
	case r.Name == "" || len(r.Name) > MaxRuntimeName || strings.TrimSpace(r.Name) != r.Name || !printable(r.Name):
		return Errorf(Invalid, "%.80q cannot name a runtime: use 1 to %d bytes of printable characters, without spaces around them", r.Name, MaxRuntimeName).At("name")
	case r.Image == nil && r.Credentials != "":
		return Errorf(Invalid, "credentials are for the registry of an image, and this runtime is made of an SDK").At("credentials")
	case r.Image == nil:
		return CheckDescription(r.Description)
	case r.Credentials != "" && !secretForm.MatchString(r.Credentials):
		return Errorf(Invalid, "credentials is the name of one of the project's secrets").At("credentials")
	case r.Credentials != "" && r.Public:
		return Errorf(Invalid, "all projects pull the image of a public runtime, so it must be one that can be read without credentials").At("credentials")
	}
	return cmp.Or(CheckDescription(r.Description), CheckCommand(r.Image.Command))
}

// MayBeChangedBy reports why a runtime that a caller sees is not the caller's to
// change or delete.
func (r Runtime) MayBeChangedBy(role Role) error {
	if !r.Created() {
		return Errorf(Denied, "runtime %s is a build, which is made when it is needed and stays as it is: only those that were created with POST /v1/runtimes can be changed or deleted", r.ID)
	}
	return r.CheckPublic(role)
}

// CheckPublic refuses to others than operators what all projects see.
func (r Runtime) CheckPublic(role Role) error {
	if r.Public && !role.Includes(Operator) {
		return Errorf(Denied, "only operators may create, change and delete public runtimes; the token's role is %s", role)
	}
	return nil
}

// CheckRemake reports why the runtime cannot be made of something else now.
// open is how many executions of its functions are queued or running.
func (r Runtime) CheckRemake(open int) error {
	if !r.Status.Settled() {
		return Errorf(Conflict, "runtime %s is %s: change what it is made of when it is available", r.ID, r.Status)
	}
	if open > 0 {
		return Errorf(Conflict, "%d executions of functions of runtime %s are queued or running: wait for them or cancel them", open, r.ID)
	}
	return nil
}

// Capacity is how many workers there are for a runtime.
type Capacity struct {
	Available int // that serve nobody
	Total     int
}

// KeptReady says of a node how many workers it keeps ready, ahead of need.
type KeptReady struct {
	Runtime string `json:"runtime"`           // RuntimeKey as text
	Project ID     `json:"project,omitempty"` // whose they are; empty: nobody's yet
	Workers int    `json:"workers"`
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
