//go:build !cgo

package accelerators

import (
	"log/slog"

	"github.com/warpket/warpket"
)

func gpus(log *slog.Logger) ([]warpket.Device, []string) {
	log.Info("no GPUs: built without NVML")
	return nil, []string{"no GPU: built without NVML, which needs a C compiler at build time"}
}
