//go:build !cgo

package accelerators

import (
	"context"
	"log/slog"

	"github.com/warpket/warpket"
)

// GPUs are the GPUs of this machine: none, for this program was built without
// NVML.
type GPUs struct{}

func findGPUs(log *slog.Logger) (*GPUs, []string) {
	log.Info("no GPUs: built without NVML")
	return nil, []string{"no GPU: built without NVML, which needs a C compiler at build time"}
}

// Devices is empty.
func (*GPUs) Devices() []warpket.Device { return nil }

// Load is empty.
func (*GPUs) Load() map[string]warpket.Load { return nil }

// Watch finds nothing.
func (*GPUs) Watch(context.Context, func(device, fault string)) {}

// Take finds no GPU.
func (*GPUs) Take(ids []string) (Lease, error) {
	return nil, warpket.Errorf(warpket.Invalid, "this node has no GPU %q: it was built without NVML", ids)
}

// Close does nothing.
func (*GPUs) Close() {}
