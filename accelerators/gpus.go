//go:build cgo

package accelerators

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/warpket/warpket"
)

// GPUs are the GPUs of this machine and the slices that they are cut into. A
// nil one has none.
type GPUs struct {
	lib  nvml.Interface
	root string // of the file system; "/" but in tests
	log  *slog.Logger
	list []*gpu
}

// gpu is a GPU or a slice of one.
type gpu struct {
	warpket.Device
	handle nvml.Device
	parent *gpu // of a slice

	minor             int // of the device file of the GPU
	instance, compute int // of a slice: its GPU instance, and the compute instance in it
}

// findGPUs gives the machine's GPUs, and in words what is wrong with the others.
func findGPUs(log *slog.Logger) (*GPUs, []string) {
	g, notes, err := probe(nvml.New(), "/", log)
	if err != nil {
		log.Info("no GPUs", "cause", err)
		return nil, []string{"no GPU: " + err.Error()}
	}
	return g, notes
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
// that stands for a machine in tests. A GPU that cannot be read does not hide
// the others.
func probe(lib nvml.Interface, root string, log *slog.Logger) (*GPUs, []string, error) {
	if err := check(lib.Init(), "loading the driver's library"); err != nil {
		return nil, nil, err
	}
	g := &GPUs{lib: lib, root: root, log: log}
	notes, err := g.readAll()
	if err != nil {
		g.Close()
		return nil, nil, err
	}
	return g, notes, nil
}

// Close lets go of the driver.
func (g *GPUs) Close() {
	if g != nil {
		_ = g.lib.Shutdown()
	}
}

// has reports whether the driver's library has a function: calling one that it
// lacks would end this process.
func (g *GPUs) has(function string) bool {
	return g.lib.Extensions().LookupSymbol(function) == nil
}

func (g *GPUs) readAll() (notes []string, err error) {
	driver, code := g.lib.SystemGetDriverVersion()
	if err := check(code, "reading the driver's version"); err != nil {
		return nil, err
	}
	cuda, code := g.lib.SystemGetCudaDriverVersion()
	if err := check(code, "reading the driver's CUDA version"); err != nil {
		return nil, err
	}
	n, code := g.lib.DeviceGetCount()
	if err := check(code, "counting GPUs"); err != nil {
		return nil, err
	}
	for i := range n {
		found, err := g.readGPU(i)
		if err != nil {
			g.log.Error("GPU not read", "gpu", i, "error", err)
			notes = append(notes, fmt.Sprintf("GPU %d cannot be used: %v", i, err))
			continue
		}
		g.list = append(g.list, found...)
	}
	for _, c := range g.list {
		c.DriverVersion = driver
		c.CUDAVersion = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
	}
	return append(notes, g.withhold()...), nil
}

// readGPU reads a GPU and its slices.
func (g *GPUs) readGPU(index int) ([]*gpu, error) {
	handle, code := g.lib.DeviceGetHandleByIndex(index)
	if err := check(code, "opening it"); err != nil {
		return nil, err
	}
	c := &gpu{handle: handle}
	if err := c.read(); err != nil {
		return nil, err
	}
	if c.minor, code = handle.GetMinorNumber(); code != nvml.SUCCESS {
		return nil, check(code, "reading the number of its device file")
	}
	major, minor, code := handle.GetCudaComputeCapability()
	if err := check(code, "reading its compute capability"); err != nil {
		return nil, err
	}
	c.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	c.Fault = g.faultOf(handle)
	slices, err := g.readSlices(c)
	return append([]*gpu{c}, slices...), err
}

// read reads what a GPU and a slice have both.
func (c *gpu) read() error {
	c.Kind = warpket.NVIDIA
	var code nvml.Return
	if c.ID, code = c.handle.GetUUID(); code != nvml.SUCCESS {
		return check(code, "reading its UUID")
	}
	if c.Name, code = c.handle.GetName(); code != nvml.SUCCESS {
		return check(code, "reading its name")
	}
	memory, code := c.handle.GetMemoryInfo()
	c.Memory = int64(memory.Total) //nolint:gosec // far below 2^63
	return check(code, "reading its memory")
}

// readSlices reads the slices that a GPU is cut into (Multi-Instance GPU).
func (g *GPUs) readSlices(of *gpu) (list []*gpu, err error) {
	if !g.has("nvmlDeviceGetMigMode") {
		return nil, nil
	}
	mode, _, code := of.handle.GetMigMode()
	if errors.Is(code, nvml.ERROR_NOT_SUPPORTED) || code == nvml.SUCCESS && mode != nvml.DEVICE_MIG_ENABLE {
		return nil, nil
	}
	if err := check(code, "reading whether it is cut into slices"); err != nil {
		return nil, err
	}
	of.MIGEnabled = true
	most, code := of.handle.GetMaxMigDeviceCount()
	if err := check(code, "counting its slices"); err != nil {
		return nil, err
	}
	for i := range most {
		handle, code := of.handle.GetMigDeviceHandleByIndex(i)
		if errors.Is(code, nvml.ERROR_NOT_FOUND) {
			continue // slices need not be numbered without gaps
		}
		if err := check(code, "opening a slice of it"); err != nil {
			return nil, err
		}
		slice := &gpu{handle: handle, parent: of, minor: of.minor}
		if err := slice.readSlice(); err != nil {
			return nil, fmt.Errorf("slice %d: %w", i, err)
		}
		list = append(list, slice)
	}
	return list, nil
}

func (c *gpu) readSlice() error {
	if err := c.read(); err != nil {
		return err
	}
	var code nvml.Return
	if c.instance, code = c.handle.GetGpuInstanceId(); code != nvml.SUCCESS {
		return check(code, "reading its GPU instance")
	}
	if c.compute, code = c.handle.GetComputeInstanceId(); code != nvml.SUCCESS {
		return check(code, "reading its compute instance")
	}
	has, code := c.handle.GetAttributes()
	if err := check(code, "reading what it has"); err != nil {
		return err
	}
	c.ParentID, c.ComputeCapability, c.Fault = c.parent.ID, c.parent.ComputeCapability, c.parent.Fault
	c.Name, c.MIGProfile = c.parent.Name, profile(has, c.parent.Memory)
	return nil
}

// profile is the name that NVIDIA's tools give to a slice, such as "1g.10gb": how
// many of the GPU's slices it computes on, and its memory, in eighths of the
// GPU's, rounded up. "1c." is before it when it has only a part of the cores.
func profile(has nvml.DeviceAttributes, whole int64) string {
	share := float64(has.MemorySizeMB<<20) / float64(max(whole, 1))
	gib := math.Ceil(float64(whole) / (1 << 30))
	name := fmt.Sprintf("%dg.%.0fgb", has.GpuInstanceSliceCount, math.Round(math.Ceil(share*8)/8*gib))
	if has.ComputeInstanceSliceCount < has.GpuInstanceSliceCount {
		name = fmt.Sprintf("%dc.%s", has.ComputeInstanceSliceCount, name)
	}
	return name
}

// Devices are what was found: GPUs, each with its slices after it.
func (g *GPUs) Devices() []warpket.Device {
	if g == nil {
		return nil
	}
	list := make([]warpket.Device, len(g.list))
	for i, c := range g.list {
		list[i] = c.Device
	}
	return list
}

// Load reads what each GPU and slice is doing. What the driver does not tell is
// left zero; one that does not answer is left out.
func (g *GPUs) Load() map[string]warpket.Load {
	if g == nil {
		return nil
	}
	loads := make(map[string]warpket.Load, len(g.list))
	for _, c := range g.list {
		memory, code := c.handle.GetMemoryInfo()
		if code != nvml.SUCCESS {
			continue
		}
		l := warpket.Load{MemoryUsed: int64(memory.Used), MemoryFree: int64(memory.Free)} //nolint:gosec // far below 2^63
		if processes, code := c.handle.GetComputeRunningProcesses(); code == nvml.SUCCESS {
			l.Processes = len(processes)
		}
		if c.parent == nil { // the rest is told of whole GPUs only
			g.sense(c.handle, &l)
		}
		loads[c.ID] = l
	}
	return loads
}

// sense reads the sensors and counters of a GPU.
func (g *GPUs) sense(handle nvml.Device, l *warpket.Load) {
	if u, code := handle.GetUtilizationRates(); code == nvml.SUCCESS {
		l.Utilisation = int(u.Gpu)
	}
	if t, code := handle.GetTemperature(nvml.TEMPERATURE_GPU); code == nvml.SUCCESS {
		l.Temperature = int(t)
	}
	if mw, code := handle.GetPowerUsage(); code == nvml.SUCCESS {
		l.Power = float64(mw) / 1000
	}
	if mw, code := handle.GetEnforcedPowerLimit(); code == nvml.SUCCESS {
		l.PowerLimit = float64(mw) / 1000
	}
	if reasons, code := handle.GetCurrentClocksThrottleReasons(); code == nvml.SUCCESS {
		l.Throttled = throttled(reasons)
	}
	if g.has("nvmlDeviceGetMPSComputeRunningProcesses") {
		shared, code := handle.GetMPSComputeRunningProcesses()
		l.MPS = code == nvml.SUCCESS && len(shared) > 0
	}
	if n, code := handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_CORRECTED, nvml.VOLATILE_ECC); code == nvml.SUCCESS {
		l.ECCCorrected = int64(n) //nolint:gosec // a count
	}
	if n, code := handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); code == nvml.SUCCESS {
		l.ECCUncorrected = int64(n) //nolint:gosec // a count
	}
}

// throttled says why clocks are low. That a GPU is idle, or that somebody has
// set its clocks, is no throttling.
func throttled(reasons uint64) (words []string) {
	for _, r := range []struct {
		bit  uint64
		word string
	}{
		{nvml.ClocksThrottleReasonSwPowerCap, "power cap"},
		{nvml.ClocksThrottleReasonHwSlowdown, "hardware slowdown"},
		{nvml.ClocksThrottleReasonSyncBoost, "sync boost"},
		{nvml.ClocksThrottleReasonSwThermalSlowdown, "heat"},
		{nvml.ClocksThrottleReasonHwThermalSlowdown, "heat, by hardware"},
		{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, "power brake"},
	} {
		if reasons&r.bit != 0 {
			words = append(words, r.word)
		}
	}
	return words
}

// find gives the GPUs and slices with these IDs.
func (g *GPUs) find(ids []string) ([]*gpu, error) {
	var found []*gpu
	var missing []string
	for _, id := range ids {
		c := g.byID(id)
		if c == nil {
			missing = append(missing, id)
			continue
		}
		found = append(found, c)
	}
	if len(missing) > 0 {
		return nil, warpket.Errorf(warpket.Unavailable, "this node has no GPU %s", strings.Join(missing, ", "))
	}
	return found, nil
}

func (g *GPUs) byID(id string) *gpu {
	if g == nil {
		return nil
	}
	for _, c := range g.list {
		if c.ID == id {
			return c
		}
	}
	return nil
}
