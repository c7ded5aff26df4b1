// Package accelerators tells what a machine has for functions to run on:
// NVIDIA GPUs, found through NVML, and simulators of quantum computers, which
// are cores and memory. Devices are read, never reconfigured.
package accelerators

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// Machine is what a node can share among slots.
type Machine struct {
	CPU     int   // thousandths of a core
	Memory  int64 // bytes
	Devices []warpket.Device
	GPUs    *GPUs    // those among the devices
	Notes   []string // what could not be probed, in words for the operator
	Boot    string   // names the time since the machine has started; empty where it cannot be told
}

// Lease is the GPUs of one slot, from before its first program until after its
// last one.
type Lease interface {
	// Access is what its programs need to reach these GPUs, and no others.
	Access() Access
	// Measure begins to measure what an execution uses of them. The function that
	// it gives ends that, and adds what was measured to a usage.
	Measure() (stop func(*warpket.Usage))
	// Returned waits until nothing of the slot is left on its GPUs: no process,
	// and no memory. The faults say of those that are not clean within a time
	// what is left.
	Returned(within time.Duration) (faults map[string]string)
}

// Access is what a program needs to reach GPUs.
type Access struct {
	Env     []string // NAME=value
	Devices []string // paths of device files
	Files   []string // that it reads: libraries of the driver that are not among the system's, and what the driver says of these GPUs in /proc
}

// reserve is the memory that a node keeps for itself and its system.
const reserve = 1 << 30

// Probe looks at this machine. Close its GPUs.
func Probe(log *slog.Logger) Machine {
	total := memory()
	m := Machine{CPU: runtime.NumCPU() * 1000, Memory: max(total-reserve, total/2), Boot: boot()}
	m.GPUs, m.Notes = findGPUs(log)
	m.Devices = append(m.GPUs.Devices(), simulator(m))
	return m
}

// simulator is the device that every machine has: its own cores and memory.
func simulator(m Machine) warpket.Device {
	return warpket.Device{
		ID: "simulator", Kind: warpket.QuantumSimulator, Name: "local simulator",
		Memory: m.Memory, Cores: runtime.NumCPU(), Methods: methods,
	}
}

var methods = []string{"statevector", "density_matrix", "stabilizer", "matrix_product_state"}

// MaxQubits is the largest statevector that fits into memory: 16 bytes for
// each of 2^n amplitudes.
func MaxQubits(memory int64) int {
	n := 0
	for int64(16)<<(n+1) <= memory && n < 58 {
		n++
	}
	return n
}

// boot is the kernel's name for the time since it was started.
func boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// memory is what the machine has in bytes, or the limit of its cgroup where
// that is less.
func memory() int64 {
	total := int64(4 << 30) // where nothing can be read
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					total = kib << 10
				}
			}
		}
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(file); err == nil {
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && limit > 0 {
				total = min(total, limit)
			}
		}
	}
	return total
}
