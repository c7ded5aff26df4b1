package qinling

import (
	"regexp"
	"slices"
	"time"

	"github.com/warpket/warpket"
)

// What this wire narrows of what warpket would do, and its defaults. Ownership,
// state, quota and safety are not here: they are decided by the same code for all.
const (
	defaultEntry = "main.main"

	defaultCPU, minCPU, maxCPU             = 100, 100, 300 // thousandths of a core
	defaultMemory, minMemory, maxMemory    = 32 << 20, 32 << 20, 128 << 20
	defaultTimeout, minTimeout, maxTimeout = 5, 1, 300 // seconds
	maxPackage                             = 51 << 20
	maxVersions                            = 10 // of a function
	minAhead                               = time.Minute

	// slotsPerWorker is how many executions a worker of Qinling runs at a time,
	// and so how many slots, which run one each, are shown as one worker: one
	// worker for every three that are running, and any rest.
	slotsPerWorker = 3

	// maxList is how many items a list holds at most, the newest: lists have no pages.
	maxList = 1000
	// maxLooked is how many things a filter looks at in vain.
	maxLooked = 20_000
	// maxPayload is how many bytes an input or a result has that is shown.
	maxPayload = 4 << 20
	maxParts   = 100 // of a form
)

// Names of images that stand for runtimes.
const (
	qinlingImages = "openstackqinling/"
	python3Image  = "openstackqinling/python3-runtime"
	warpketImages = "warpket/" // and an SDK: warpket/qiskit:0.45.3
)

// Where the code of a function comes from.
const (
	packageSource = "package"
	swiftSource   = "swift"
	imageSource   = "image"
)

// aliasForm is what may name an alias: whatever is one part of a path.
var aliasForm = regexp.MustCompile(`^[^/\x00-\x1f\x7f]{1,255}$`)

func namesAlias(name string) bool { return aliasForm.MatchString(name) && name != "." && name != ".." }

// statuses are those of executions.
var statuses = map[warpket.Status]string{
	warpket.Queued: "running", warpket.Running: "running", warpket.Succeeded: "success",
	warpket.Failed: "failed", warpket.TimedOut: "failed", warpket.Cancelled: "failed", warpket.Lost: "error",
}

// ours are the reasons of failures that are no function's fault.
var ours = []warpket.FailureCode{warpket.LostCode, warpket.NoRuntime, warpket.NotPlaced, warpket.NotPrepared}

// nativeStatuses are those of the executions that may have one of the wire's that
// fits. Failed ones may be either of two.
func nativeStatuses(fits func(string) bool) []warpket.Status {
	native := []warpket.Status{}
	for _, status := range warpket.Statuses {
		if fits(statuses[status]) || status == warpket.Failed && fits(statuses[warpket.Lost]) {
			native = append(native, status)
		}
	}
	return native
}

// exhausted are the reasons of failures that come of limits.
var exhausted = []warpket.FailureCode{warpket.OutOfMemory, warpket.TooManyProcesses, warpket.DiskFull}

func runtimeStatus(r warpket.Runtime) string {
	switch {
	case r.Status == warpket.RuntimeAvailable:
		return "available"
	case r.Status == warpket.RuntimeFailed:
		return "error"
	case r.Revision > 1:
		return "upgrading"
	}
	return "creating"
}

func contains[T comparable](list []T, v T) bool { return slices.Contains(list, v) }
