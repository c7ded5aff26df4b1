//go:build cgo

package accelerators

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// access is what programs need to reach these GPUs: the driver's own device
// files, those of the GPUs, and those that open their slices.
func (g *GPUs) access(cards []*gpu) Access {
	var a Access
	var visible []string
	files := []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}
	for _, c := range cards {
		visible = append(visible, c.ID)
		files = append(files, fmt.Sprintf("/dev/nvidia%d", c.minor))
		if c.parent != nil {
			files = append(files, g.capabilities(c)...)
		}
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		if _, err := os.Stat(filepath.Join(g.root, file)); err == nil {
			a.Devices = append(a.Devices, file)
		}
	}
	a.Files = g.libraries()
	a.Env = []string{"CUDA_VISIBLE_DEVICES=" + strings.Join(visible, ","), "CUDA_DEVICE_ORDER=PCI_BUS_ID"}
	var folders []string
	for _, file := range a.Files {
		if folder := filepath.Dir(file); !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	if len(folders) > 0 {
		a.Env = append(a.Env, "LD_LIBRARY_PATH="+strings.Join(folders, ":"))
	}
	return a
}

// capabilities are the device files that open a slice: one for its GPU instance,
// one for the compute instance. The driver says which they are in /proc.
func (g *GPUs) capabilities(c *gpu) (files []string) {
	instance := fmt.Sprintf("proc/driver/nvidia/capabilities/gpu%d/mig/gi%d", c.minor, c.instance)
	for _, name := range []string{instance + "/access", fmt.Sprintf("%s/ci%d/access", instance, c.compute)} {
		b, err := os.ReadFile(filepath.Join(g.root, name))
		if err != nil {
			g.log.Warn("device file of a slice not found", "slice", c.ID, "error", err)
			continue
		}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			if minor, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && name == "DeviceFileMinor" {
				files = append(files, fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", minor))
			}
		}
	}
	return files
}

// parts of the driver that programs load.
var parts = []string{"libcuda.so", "libnvidia-ml.so", "libnvidia-ptxjitcompiler.so", "libnvidia-nvvm.so", "libnvidia-gpucomp.so", "libcudadebugger.so"}

// libraries are the driver's that lie outside of the folders which every
// sandbox has. The cache of the dynamic linker says where they are; its paths
// end with a zero byte.
func (g *GPUs) libraries() (files []string) {
	cache, err := os.ReadFile(filepath.Join(g.root, "etc/ld.so.cache"))
	if err != nil {
		g.log.Info("the driver's libraries are taken to be among the system's", "cause", err)
	}
	for text := range bytes.SplitSeq(cache, []byte{0}) {
		file := string(text)
		if !strings.HasPrefix(file, "/") || !slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(filepath.Base(file), p) }) {
			continue
		}
		target := g.resolve(file)
		if target == "" {
			continue // the cache is older than what is there
		}
		for _, name := range []string{file, target} {
			if !ofSystem(name) && !slices.Contains(files, name) {
				files = append(files, name)
			}
		}
	}
	slices.Sort(files)
	return files
}

// resolve follows a link to where the file is; empty if there is none.
func (g *GPUs) resolve(file string) string {
	target, err := filepath.EvalSymlinks(filepath.Join(g.root, file))
	if err != nil {
		return ""
	}
	return filepath.Join("/", strings.TrimPrefix(target, filepath.Clean(g.root)))
}

// ofSystem reports whether a file is in a folder that every sandbox has.
func ofSystem(file string) bool {
	return slices.ContainsFunc([]string{"/usr/", "/lib/", "/lib64/"}, func(folder string) bool { return strings.HasPrefix(file, folder) })
}
