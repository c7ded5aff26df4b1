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

// deviceFile is a file by which programs reach a GPU or a slice.
type deviceFile struct {
	path string
	made string // the command that makes it; empty where none does
}

// needed are the device files without which a program cannot use a GPU or a
// slice: the driver's own, the GPU's, and those that open the slice.
func (g *GPUs) needed(c *gpu) []deviceFile {
	files := []deviceFile{
		{"/dev/nvidiactl", "nvidia-modprobe -c=0"},
		{"/dev/nvidia-uvm", "nvidia-modprobe -u -c=0"},
		{fmt.Sprintf("/dev/nvidia%d", c.minor), fmt.Sprintf("nvidia-modprobe -c=%d", c.minor)},
	}
	if c.parent != nil {
		files = append(files, g.capabilities(c)...)
	}
	return files
}

// withhold takes out of the list what has no device file, for every call of CUDA
// in its slots would fail, and says which file is missing and what makes it.
func (g *GPUs) withhold() (notes []string) {
	var order []deviceFile
	ids := map[deviceFile][]string{}
	g.list = slices.DeleteFunc(g.list, func(c *gpu) bool {
		for _, file := range g.needed(c) {
			if _, err := os.Stat(filepath.Join(g.root, file.path)); err != nil {
				if ids[file] == nil {
					order = append(order, file)
				}
				ids[file] = append(ids[file], c.ID)
				return true
			}
		}
		return false
	})
	for _, file := range order {
		note := fmt.Sprintf("GPU %s cannot be used: there is no %s, without which every call of CUDA fails", strings.Join(ids[file], ", "), file.path)
		if file.made != "" {
			note += fmt.Sprintf("; as root, %q makes it: run it, and start the node again", file.made)
		}
		g.log.Error("GPUs without a device file are not used", "file", file.path, "gpus", ids[file])
		notes = append(notes, note)
	}
	return notes
}

// access is what programs need to reach these GPUs.
func (g *GPUs) access(cards []*gpu) Access {
	var a Access
	var visible []string
	said := []string{"/proc/devices", "/proc/driver/nvidia/params"}
	for _, c := range cards {
		visible = append(visible, c.ID)
		for _, file := range g.needed(c) {
			a.Devices = append(a.Devices, file.path)
		}
		if c.parent != nil {
			said = append(said, c.said()...)
		}
	}
	const tools = "/dev/nvidia-uvm-tools" // of profilers: nobody fails without it
	if _, err := os.Stat(filepath.Join(g.root, tools)); err == nil {
		a.Devices = append(a.Devices, tools)
	}
	slices.Sort(a.Devices)
	a.Devices = slices.Compact(a.Devices)
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
	for _, file := range said {
		if _, err := os.Stat(filepath.Join(g.root, file)); err == nil {
			a.Files = append(a.Files, file)
		}
	}
	return a
}

// capabilities are the device files that open a slice: one for its GPU instance,
// one for the compute instance. The driver says which they are in /proc; where
// it does not, that file of /proc is what is needed.
func (g *GPUs) capabilities(c *gpu) (files []deviceFile) {
	for _, name := range c.said() {
		file := deviceFile{path: name}
		b, err := os.ReadFile(filepath.Join(g.root, name))
		if err != nil {
			g.log.Warn("device file of a slice not found", "slice", c.ID, "error", err)
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			if minor, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && key == "DeviceFileMinor" {
				file = deviceFile{fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", minor), "nvidia-modprobe -f " + name}
			}
		}
		files = append(files, file)
	}
	return files
}

// said are the files of /proc in which the driver says how a slice is opened:
// its library looks there for the number of the device file.
func (c *gpu) said() []string {
	instance := fmt.Sprintf("/proc/driver/nvidia/capabilities/gpu%d/mig/gi%d", c.minor, c.instance)
	return []string{instance + "/access", fmt.Sprintf("%s/ci%d/access", instance, c.compute)}
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
