package pypi

import (
	"slices"
	"strconv"
	"strings"

	"deps.dev/util/semver"
)

// Wheel is a built file of a release, with what its name says (PEP 427).
type Wheel struct {
	File
	Package   string
	Version   string
	Pythons   []string // such as cp311, py3
	ABIs      []string // such as cp311, abi3, none
	Platforms []string // such as manylinux_2_17_x86_64, any
}

// ParseWheel reads the name of a file. It reports false if the file is no wheel.
func ParseWheel(f File) (Wheel, bool) {
	base, ok := strings.CutSuffix(f.Name, ".whl")
	parts := strings.Split(base, "-")
	if !ok || len(parts) < 5 || len(parts) > 6 { // the sixth is a build number
		return Wheel{}, false
	}
	tags := parts[len(parts)-3:]
	return Wheel{
		File:      f,
		Package:   parts[0],
		Version:   parts[1],
		Pythons:   strings.Split(tags[0], "."),
		ABIs:      strings.Split(tags[1], "."),
		Platforms: strings.Split(tags[2], "."),
	}, true
}

var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// FitsPlatform reports whether the wheel is for Linux on an architecture, as
// Go names it, or for any machine.
func (w Wheel) FitsPlatform(arch string) bool {
	machine, known := machines[arch]
	return slices.ContainsFunc(w.Platforms, func(p string) bool {
		linux := strings.HasPrefix(p, "manylinux") || strings.HasPrefix(p, "musllinux") || strings.HasPrefix(p, "linux")
		return p == "any" || known && linux && strings.HasSuffix(p, "_"+machine)
	})
}

// FitsPython reports whether the wheel runs on a Python minor such as "3.11".
func (w Wheel) FitsPython(minor string) bool {
	n, ok := minorNumber(minor)
	return ok && slices.ContainsFunc(w.Pythons, func(tag string) bool { return w.fitsTag(tag, n) }) && w.allows(minor)
}

func (w Wheel) fitsTag(tag string, minor int) bool {
	if digits, ok := strings.CutPrefix(tag, "cp3"); ok {
		n, err := strconv.Atoi(digits)
		if err != nil {
			return false
		}
		return n == minor && (slices.Contains(w.ABIs, "cp3"+digits) || slices.Contains(w.ABIs, "none")) ||
			n <= minor && slices.Contains(w.ABIs, "abi3")
	}
	digits, ok := strings.CutPrefix(tag, "py3")
	if !ok || !slices.Contains(w.ABIs, "none") {
		return false
	}
	n, err := strconv.Atoi(digits)
	return digits == "" || err == nil && n <= minor
}

// allows reports whether Requires-Python lets the minor in. A constraint that
// cannot be read keeps nobody out. The constraint is on full versions, so a
// late patch release of the minor stands for it.
func (w Wheel) allows(minor string) bool {
	if w.RequiresPython == "" {
		return true
	}
	c, err := semver.PyPI.ParseConstraint(w.RequiresPython)
	return err != nil || c.Match(minor+".99")
}

func minorNumber(minor string) (int, bool) {
	digits, ok := strings.CutPrefix(minor, "3.")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil
}

// Compare orders versions as PEP 440 does.
func Compare(a, b string) int { return semver.PyPI.Compare(a, b) }

// Valid reports whether a text is a version.
func Valid(version string) bool {
	v, err := semver.PyPI.Parse(version)
	return err == nil && !v.IsWildcard()
}

// Stable reports whether a version is neither a pre-release nor a development one.
func Stable(version string) bool {
	v, err := semver.PyPI.Parse(version)
	return err == nil && !v.IsPrerelease() && !v.IsWildcard() && !strings.Contains(v.Canon(false), "dev")
}

// Canonical is one spelling for all that mean the same version.
func Canonical(version string) string {
	v, err := semver.PyPI.Parse(version)
	if err != nil {
		return version
	}
	return v.Canon(true)
}
