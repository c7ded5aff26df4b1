package warpket

import (
	"slices"
	"time"
)

// Build is what a compiler makes of a snapshot's files.
type Build struct {
	ID            ID
	ProjectID     ID
	SnapshotID    ID
	Architectures []string // compute capabilities that it is compiled for, ascending
	Status        BuildStatus
	Message       string // why the files do not compile
	Log           string // what the compiler has printed, cut
	SHA256        string // of the program, which is the object {project}/{sha256}
	Size          int64  // of the program
	CreatedDate   time.Time
	UpdatedDate   time.Time
}

// BuildStatus says how far a build is.
type BuildStatus string

// The statuses of a build.
const (
	BuildPending   BuildStatus = "pending"
	BuildSucceeded BuildStatus = "succeeded"
	BuildFails     BuildStatus = "failed" // the files do not compile, however often that is tried
)

// Err says why the files do not compile; nil if they may.
func (b Build) Err() error {
	if b.Status != BuildFails {
		return nil
	}
	return Errorf(Invalid, "the files do not compile: %s", b.Message)
}

// What is compiled for where the fleet has no GPUs, and all that the toolkits
// know.
var (
	defaultArchitectures = []string{"8.0", "9.0"}
	knownArchitectures   = []string{"7.5", "8.0", "8.6", "8.7", "8.8", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"}
)

// Architectures are what is compiled for so that it runs on the GPUs of a fleet,
// ascending. What came after the newest is left to its driver, which compiles
// PTX.
func Architectures(fleet []Node) []string {
	var found []string
	for _, n := range fleet {
		for _, d := range n.Inventory.Devices {
			if d.Kind == NVIDIA && slices.Contains(knownArchitectures, d.ComputeCapability) {
				found = append(found, d.ComputeCapability)
			}
		}
	}
	if len(found) == 0 {
		return slices.Clone(defaultArchitectures)
	}
	slices.SortFunc(found, func(a, b string) int { return VersionNumber(a) - VersionNumber(b) })
	return slices.Compact(found)
}
