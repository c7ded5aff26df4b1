package accelerators

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/warpket/warpket"
)

// declared is a file of devices that a node is to have without having them.
type declared struct {
	Devices []declaration `yaml:"devices"`
}

// declaration is some devices that are alike.
type declaration struct {
	Count             *int     `yaml:"count"` // 1 unless set
	Kind              string   `yaml:"kind"`  // gpu unless set
	Name              string   `yaml:"name"`
	Memory            string   `yaml:"memory"` // "80 GiB"
	ComputeCapability string   `yaml:"computeCapability"`
	CUDAVersion       string   `yaml:"cudaVersion"`
	DriverVersion     string   `yaml:"driverVersion"`
	MIG               []string `yaml:"mig"` // profiles of the slices that each GPU is cut into
	Fault             string   `yaml:"fault"`
	Cores             int      `yaml:"cores"`
	Methods           []string `yaml:"methods"`
}

// maxDeclared bounds the devices of one node.
const maxDeclared = 1024

// ReadSimulated reads a YAML or JSON file of devices that a node is to report
// without having them, for tests and for planning a fleet. No code runs on
// them. Their IDs are made of their place in the file, so they stay the same.
func ReadSimulated(file string) ([]warpket.Device, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the simulated devices: %w", err)
	}
	devices, err := parseSimulated(b)
	if err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "the simulated devices in %s: %v", file, err)
	}
	return devices, nil
}

func parseSimulated(b []byte) (devices []warpket.Device, err error) {
	var all declared
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	decoder.KnownFields(true)
	if err := decoder.Decode(&all); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(all.Devices) == 0 {
		return nil, errors.New("there are none: list them under \"devices\"")
	}
	numbers := map[warpket.DeviceKind]int{}
	for i, d := range all.Devices {
		like, err := d.device()
		if err != nil {
			return nil, fmt.Errorf("devices[%d]: %w", i, err)
		}
		count := 1
		if d.Count != nil {
			count = *d.Count
		}
		if count < 1 || count > maxDeclared || len(devices)+count*(1+len(d.MIG)) > maxDeclared {
			return nil, fmt.Errorf("devices[%d]: a node has from 1 to %d simulated devices", i, maxDeclared)
		}
		for range count {
			this := like
			this.ID = fmt.Sprintf("simulated-%s-%d", this.Kind, numbers[this.Kind])
			numbers[this.Kind]++
			slices, err := d.slices(this)
			if err != nil {
				return nil, fmt.Errorf("devices[%d]: %w", i, err)
			}
			devices = append(append(devices, this), slices...)
		}
	}
	return devices, nil
}

var version = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,4}){1,3}$`)

func (d declaration) device() (out warpket.Device, err error) {
	out = warpket.Device{Kind: warpket.NVIDIA, Name: d.Name, Simulated: true, Fault: d.Fault}
	if out.Memory, err = parseBytes(d.Memory); err != nil {
		return out, err
	}
	if d.Name == "" || len(d.Name) > 100 {
		return out, errors.New("name has from 1 to 100 characters, such as \"NVIDIA H100 80GB HBM3\"")
	}
	switch d.Kind {
	case "", string(warpket.NVIDIA):
		for name, v := range map[string]string{"computeCapability": d.ComputeCapability, "cudaVersion": d.CUDAVersion, "driverVersion": d.DriverVersion} {
			if !version.MatchString(v) {
				return out, fmt.Errorf("%s is a version in quotes, such as \"9.0\", not %q", name, v)
			}
		}
		if d.Cores != 0 || d.Methods != nil {
			return out, errors.New("cores and methods are of simulators, not of GPUs")
		}
		out.ComputeCapability, out.CUDAVersion, out.DriverVersion, out.MIGEnabled = d.ComputeCapability, d.CUDAVersion, d.DriverVersion, d.MIG != nil
	case string(warpket.QuantumSimulator):
		if d.ComputeCapability+d.CUDAVersion+d.DriverVersion != "" || d.MIG != nil {
			return out, errors.New("computeCapability, cudaVersion, driverVersion and mig are of GPUs, not of simulators")
		}
		if d.Cores < 1 || d.Cores > 4096 {
			return out, errors.New("cores is from 1 to 4096")
		}
		out.Kind, out.Cores, out.Methods = warpket.QuantumSimulator, d.Cores, d.Methods
		if d.Methods == nil {
			out.Methods = methods
		}
	default:
		return out, fmt.Errorf("kind is gpu or simulator, not %q", d.Kind)
	}
	return out, nil
}

var profileName = regexp.MustCompile(`^(?:[1-7]c\.)?([1-7])g\.([1-9][0-9]{0,2})gb$`)

// slices are those that a GPU is cut into. They have no more of it than there is.
func (d declaration) slices(of warpket.Device) (list []warpket.Device, err error) {
	parts, memory := 0, int64(0)
	for i, profile := range d.MIG {
		m := profileName.FindStringSubmatch(profile)
		if m == nil {
			return nil, fmt.Errorf("mig has profiles such as 1g.10gb, not %q", profile)
		}
		part, _ := strconv.Atoi(m[1])
		gib, _ := strconv.ParseInt(m[2], 10, 64)
		parts, memory = parts+part, memory+gib<<30
		slice := of
		slice.ID, slice.ParentID, slice.MIGProfile, slice.MIGEnabled, slice.Memory = fmt.Sprintf("%s-mig-%d", of.ID, i), of.ID, profile, false, gib<<30
		list = append(list, slice)
	}
	if parts > 7 || memory > of.Memory {
		return nil, fmt.Errorf("the slices %s are more than the GPU has: 7 parts and its memory", strings.Join(d.MIG, ", "))
	}
	return list, nil
}

var size = regexp.MustCompile(`^([1-9][0-9]{0,5})\s?(MiB|GiB|TiB)$`)

func parseBytes(text string) (int64, error) {
	m := size.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("memory is a number of MiB, GiB or TiB, such as \"80 GiB\", not %q", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return n << map[string]int{"MiB": 20, "GiB": 30, "TiB": 40}[m[2]], err
}
