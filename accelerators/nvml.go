//go:build cgo

package accelerators

import (
	"fmt"
	"log/slog"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/warpket/warpket"
)

func gpus(log *slog.Logger) ([]warpket.Device, []string) {
	devices, err := probe(nvml.New())
	if err != nil {
		log.Info("no GPUs", "cause", err)
		return nil, []string{"no GPU: " + err.Error()}
	}
	return devices, nil
}

// check turns NVML's return code, which is an error even on success, into an
// error of ours.
func check(code nvml.Return, doing string) error {
	if code == nvml.SUCCESS {
		return nil
	}
	return fmt.Errorf("%s: NVML says %w", doing, code)
}

// probe reads the GPUs of a machine. Its parameter is NVML itself, or a server
// that stands for a machine in tests.
func probe(lib nvml.Interface) ([]warpket.Device, error) {
	if err := check(lib.Init(), "loading the driver's library"); err != nil {
		return nil, err
	}
	defer func() { _ = lib.Shutdown() }()
	driver, code := lib.SystemGetDriverVersion()
	if err := check(code, "reading the driver's version"); err != nil {
		return nil, err
	}
	cuda, code := lib.SystemGetCudaDriverVersion()
	if err := check(code, "reading the driver's CUDA version"); err != nil {
		return nil, err
	}
	n, code := lib.DeviceGetCount()
	if err := check(code, "counting GPUs"); err != nil {
		return nil, err
	}
	devices := make([]warpket.Device, 0, n)
	for i := range n {
		gpu, code := lib.DeviceGetHandleByIndex(i)
		if err := check(code, fmt.Sprintf("opening GPU %d", i)); err != nil {
			return nil, err
		}
		d, err := read(gpu)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i, err)
		}
		d.DriverVersion = driver
		d.CUDAVersion = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
		devices = append(devices, d)
	}
	return devices, nil
}

func read(gpu nvml.Device) (d warpket.Device, err error) {
	d.Kind = warpket.NVIDIA
	var code nvml.Return
	if d.ID, code = gpu.GetUUID(); code != nvml.SUCCESS {
		return d, check(code, "reading its UUID")
	}
	if d.Name, code = gpu.GetName(); code != nvml.SUCCESS {
		return d, check(code, "reading its name")
	}
	memory, code := gpu.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return d, check(code, "reading its memory")
	}
	d.Memory = int64(memory.Total) //nolint:gosec // far below 2^63
	major, minor, code := gpu.GetCudaComputeCapability()
	if code != nvml.SUCCESS {
		return d, check(code, "reading its compute capability")
	}
	d.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	return d, nil
}
