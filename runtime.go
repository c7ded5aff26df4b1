package warpket

import (
	"strings"
	"time"
)

// Runtime is one SDK at one version, ready to run: a locked, hashed environment.
// Versions that come as an image share one that is empty, see ImageRuntime.
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
