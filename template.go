package warpket

import (
	"cmp"
	"maps"
	"slices"
)

// Template is a starter for functions: one for each language tag.
type Template struct {
	Tag             string // such as "Qiskit"; unique
	SDK             string // package name, or "python" for the plain interpreter
	DefaultVersion  string // empty: the newest release
	OldestVersion   string // releases before it are refused
	Description     string
	Entry           string // "module.function"
	Targets         []Target
	Wheels          []string          // packages whose wheels decide which Python fits a release
	Requirements    map[string]string // more packages that come with the SDK: name to version specifiers, which may be empty
	LockWindowWeeks int               // how long after a release its dependencies may have been released
	Smoke           string            // program that a fresh runtime must run before it is used
	Files           []TemplateFile
	Examples        []TemplateFile // more programs, each in the place of the main file
	Minors          []string       // packages of which the SDK consists, whose minors are its versions; none: the SDK is a package
	Compiler        Compiler       // that its versions are built with before they run; empty for none
	CUDA            string         // version that the driver of a GPU must support, see DriverFor; empty for any
}

// Compiler builds versions.
type Compiler string

// NVCC is the compiler for CUDA C++.
const NVCC Compiler = "nvcc"

// Packages are what a runtime of the SDK at a version is made of: names to
// version specifiers, which may be empty.
func (t Template) Packages(version string) map[string]string {
	packages := maps.Clone(t.Requirements)
	if packages == nil {
		packages = map[string]string{}
	}
	for _, name := range t.Minors {
		packages[name] = "==" + version + ".*"
	}
	if len(t.Minors) == 0 {
		packages[t.SDK] = "==" + version
	}
	return packages
}

// DriverFor is the CUDA version that a GPU's driver must support for the SDK at
// a version; empty for any. The releases of the CUDA toolkit are such versions
// themselves: what they compile, an older driver may not load.
func (t Template) DriverFor(version string) string {
	if t.Compiler == NVCC {
		return version
	}
	return t.CUDA
}

// TemplateFile is one file that a template starts a function with.
type TemplateFile struct {
	Filename string
	Language string
	Content  string
}

// Target is where an execution runs.
type Target string

// The targets.
const (
	Simulator Target = "simulator" // a quantum simulator on a node's cores
	GPU       Target = "gpu"       // an NVIDIA GPU
	Compile   Target = "compile"   // the compiler only
	Sim       Target = "sim"       // a simulated GPU, for small functional checks
	CPU       Target = "cpu"       // a node's cores, nothing else
)

// Aims are where a version can run.
type Aims struct {
	Tag     string   // of its template; empty for an image
	Targets []Target // the first unless something else is said
	Driver  string   // CUDA version that a GPU's driver must support; empty for any
}

// AimsOf is where a snapshot can run: template is that of its function, and sdk
// the version of its runtime. An image needs neither.
func AimsOf(n Snapshot, template Template, sdk string) Aims {
	if n.Image != nil {
		return Aims{Targets: []Target{CPU}}
	}
	return Aims{Tag: template.Tag, Targets: template.Targets, Driver: template.DriverFor(sdk)}
}

// Take gives where something runs that names a target, or none, and what it
// needs there: explicit is what it asks for itself, settings what its function has.
func (a Aims) Take(named Target, explicit, settings Resources) (Target, Resources, error) {
	r := explicit.Or(settings)
	target := r.Target(a.Targets)
	if named != "" {
		if target = named; !slices.Contains(a.Targets, target) {
			return "", r, Errorf(Invalid, "functions of %s run on %s, not on %q", cmp.Or(a.Tag, "an image"), words(a.Targets), named).At("target")
		}
	}
	r, err := r.For(target, explicit)
	return target, r.WithDriver(a.Driver), err
}
