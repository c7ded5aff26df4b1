//go:build cgo

package accelerators

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// byPrograms are the Xid errors that a program brings about by itself, such as
// an access outside of its memory. They say nothing about the GPU: if they
// counted, a function could take one out of service.
var byPrograms = []uint64{
	13,  // exception in a kernel
	31,  // page fault of a kernel
	43,  // a channel was reset
	45,  // channels were cleaned up after an end or an error
	68,  // exception in video decoding
	109, // a context switch took too long
}

// known are the Xid errors that operators meet most, in words.
var known = map[uint64]string{
	48: "double bit memory error", 62: "internal halt", 63: "memory rows are to be remapped", 64: "memory rows could not be remapped",
	74: "NVLink error", 79: "fallen off the bus", 92: "many corrected memory errors", 94: "contained memory error", 95: "uncontained memory error",
	119: "the GPU's own processor does not answer", 120: "the GPU's own processor has failed",
}

// faultOf says what is wrong with a GPU from before this program started; empty
// when nothing is.
func (g *GPUs) faultOf(handle nvml.Device) string {
	if n, code := handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); code == nvml.SUCCESS && n > 0 {
		return fmt.Sprintf("uncorrected memory errors since the driver was loaded: %d", n)
	}
	if g.has("nvmlDeviceGetRemappedRows") {
		if _, _, _, failed, code := handle.GetRemappedRows(); code == nvml.SUCCESS && failed {
			return "memory rows could not be remapped"
		}
	}
	return ""
}

// Watch calls found for each fault that a GPU or slice gets from now on, until
// ctx ends. A fault names its time, so that the same one never comes twice.
func (g *GPUs) Watch(ctx context.Context, found func(device, fault string)) {
	if g == nil {
		return
	}
	set, code := g.lib.EventSetCreate()
	if err := check(code, "listening for faults"); err != nil {
		g.log.Error("faults of GPUs are not seen", "error", err)
		return
	}
	defer func() { _ = set.Free() }()
	watched := 0
	for _, c := range g.list {
		if c.parent != nil {
			continue
		}
		types, code := c.handle.GetSupportedEventTypes()
		if types &= nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError; code == nvml.SUCCESS && types != 0 {
			code = c.handle.RegisterEvents(types, set)
		}
		if code != nvml.SUCCESS || types == 0 {
			g.log.Warn("faults of a GPU are not seen", "gpu", c.ID, "cause", code)
			continue
		}
		watched++
	}
	for watched > 0 && ctx.Err() == nil {
		g.await(ctx, set, found)
	}
}

// await waits for one event.
func (g *GPUs) await(ctx context.Context, set nvml.EventSet, found func(device, fault string)) {
	event, code := set.Wait(1000) // so that the end of ctx is noticed
	at := time.Now().UTC().Format(time.RFC3339)
	switch {
	case errors.Is(code, nvml.ERROR_TIMEOUT):
	case code == nvml.SUCCESS:
		g.tell(event, at, found)
	default:
		for _, c := range g.list {
			if _, code := c.handle.GetMemoryInfo(); errors.Is(code, nvml.ERROR_GPU_IS_LOST) {
				found(c.ID, "it no longer answers, since "+at)
			}
		}
		g.log.Error("no news of faults of GPUs; listening on", "cause", code)
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute): // the same error may come at once, again and again
		}
	}
}

// whole is the instance of an event that is not of a slice.
const whole = math.MaxUint32

// tell passes on what an event says, if it says something about the GPU.
func (g *GPUs) tell(event nvml.EventData, at string, found func(device, fault string)) {
	fault := "double bit memory error at " + at
	if event.EventType == nvml.EventTypeXidCriticalError {
		if slices.Contains(byPrograms, event.EventData) {
			return
		}
		fault = fmt.Sprintf("Xid %d at %s", event.EventData, at)
		if words := known[event.EventData]; words != "" {
			fault = fmt.Sprintf("Xid %d (%s) at %s", event.EventData, words, at)
		}
	}
	id, code := "", nvml.Return(nvml.ERROR_GPU_IS_LOST)
	if event.Device != nil {
		id, code = event.Device.GetUUID()
	}
	for _, c := range g.list {
		if code == nvml.SUCCESS && c.ID != id && c.ParentID != id {
			continue // else it cannot be told which: all are suspect
		}
		if c.parent != nil && event.GpuInstanceId != whole && int(event.GpuInstanceId) != c.instance {
			continue
		}
		found(c.ID, fault)
	}
}
