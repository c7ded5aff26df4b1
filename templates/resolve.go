package templates

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
)

// Release is one version of an SDK with the Python that it will run on.
type Release struct {
	SDK      string
	Version  string
	Python   string            // minor, the newest that fits
	Packages map[string]string // what to install: name to version specifiers, which may be empty
	Until    time.Time         // packages released later are not considered; zero: no bound
}

// Resolve finds the release of a template's SDK that a version means, and the
// newest of the given Python minors that it has wheels for. No version means
// the template's default, or the newest stable release that fits.
func (c *Catalog) Resolve(ctx context.Context, t warpket.Template, version string, pythons []string) (Release, error) {
	if version == "" {
		version = t.DefaultVersion
	}
	if t.SDK == Python {
		return interpreter(version, pythons)
	}
	all, err := c.candidates(ctx, t)
	if err != nil {
		return Release{}, err
	}
	newest := slices.IndexFunc(all, func(r candidate) bool { return r.usual(t) && r.python(pythons) != "" })
	if version == "" {
		if newest < 0 {
			return Release{}, warpket.Errorf(warpket.Invalid, "no release of %s has wheels for Python %s", t.SDK, list(pythons)).At("sdkVersion")
		}
		return all[newest].release(t, pythons), nil
	}
	if !pypi.Valid(version) {
		return Release{}, warpket.Errorf(warpket.Invalid, "%q is not a version; versions of %s look like %s", version, t.SDK, example(all)).At("sdkVersion")
	}
	if t.OldestVersion != "" && pypi.Compare(version, t.OldestVersion) < 0 {
		return Release{}, warpket.Errorf(warpket.Invalid, "%s %s is too old: the oldest that the template %s takes is %s", t.SDK, version, t.Tag, t.OldestVersion).At("sdkVersion")
	}
	at := slices.IndexFunc(all, func(r candidate) bool { return pypi.Compare(r.version, version) == 0 })
	if at < 0 {
		return Release{}, warpket.Errorf(warpket.Invalid, "%s is not a release of %s%s", version, t.SDK, nearest(t, all, version, pythons)).At("sdkVersion")
	}
	// A yanked release is not offered, but whoever names it may have it.
	if all[at].python(pythons) == "" {
		return Release{}, warpket.Errorf(warpket.Invalid, "%s %s has %s, and the nodes have Python %s%s",
			t.SDK, version, all[at].offer(), list(pythons), nearest(t, all, version, pythons)).At("sdkVersion")
	}
	return all[at].release(t, pythons), nil
}

// Versions are the stable releases of a template's SDK that fit one of the
// Python minors, newest first.
func (c *Catalog) Versions(ctx context.Context, t warpket.Template, pythons []string) ([]string, error) {
	if t.SDK == Python {
		return newestFirst(pythons), nil
	}
	all, err := c.candidates(ctx, t)
	if err != nil {
		return nil, err
	}
	var versions []string
	for _, r := range all {
		if r.usual(t) && r.python(pythons) != "" {
			versions = append(versions, r.version)
		}
	}
	return versions, nil
}

// candidate is a version that at least one of a template's wheels has. A
// Python fits it when it fits every one of these packages that has it (some
// SDKs moved their code from one package to another), and one release of the
// time of each package that comes with the SDK.
type candidate struct {
	version  string
	packages []pypi.Release
	until    time.Time        // packages released later are not considered
	others   [][]pypi.Release // releases of the packages that come with it
	arch     string
}

// candidates are all versions of a template's SDK, newest first.
func (c *Catalog) candidates(ctx context.Context, t warpket.Template) ([]candidate, error) {
	byVersion := map[string]*candidate{}
	for _, name := range t.Wheels {
		releases, err := c.releases(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("looking up the releases of %s: %w", t.SDK, err)
		}
		for _, r := range releases {
			key, version := pypi.Canonical(r.Version), r.Version
			if len(t.Minors) > 0 {
				if !pypi.Stable(version) || r.Yanked {
					continue
				}
				version = minorOf(version)
				key = version
			}
			if byVersion[key] == nil {
				byVersion[key] = &candidate{version: version, arch: c.arch}
			}
			byVersion[key].add(r)
		}
	}
	var others [][]pypi.Release
	for name := range t.Requirements {
		releases, err := c.releases(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("looking up the releases of %s: %w", name, err)
		}
		if len(releases) > 0 {
			others = append(others, releases)
		}
	}
	var all []candidate
	for _, r := range byVersion {
		own := pypi.Normal(r.packages[0].Wheels[0].Package) == pypi.Normal(t.SDK)
		if len(t.Minors) > 0 {
			own = len(r.packages) == len(t.Wheels)
		}
		// A version that only a package of the past has is none of the SDK's own,
		// and neither is a minor that one of its packages lacks.
		if own {
			r.others = others
			if uploaded := r.packages[0].Uploaded; t.LockWindowWeeks > 0 && !uploaded.IsZero() {
				r.until = uploaded.AddDate(0, 0, 7*t.LockWindowWeeks)
			}
			all = append(all, *r)
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return pypi.Compare(b.version, a.version) })
	return all, nil
}

// add adds a release of a package. Of those of one minor the newest counts.
func (r *candidate) add(release pypi.Release) {
	for i, p := range r.packages {
		if p.Wheels[0].Package == release.Wheels[0].Package {
			if pypi.Compare(p.Version, release.Version) < 0 {
				r.packages[i] = release
			}
			return
		}
	}
	r.packages = append(r.packages, release)
}

// minorOf is the minor of a version: 13.2 of 13.2.86.
func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

// releases are those of a package: none if the index does not have it, for a
// mirror may lack a package of the past.
func (c *Catalog) releases(ctx context.Context, name string) ([]pypi.Release, error) {
	project, err := c.index.Project(ctx, name)
	if warpket.KindOf(err) == warpket.NotFound {
		return nil, nil
	}
	return project.Releases(), err
}

// usual reports whether a release is offered to who names no version.
func (r candidate) usual(t warpket.Template) bool {
	yanked := slices.ContainsFunc(r.packages, func(p pypi.Release) bool { return p.Yanked })
	old := t.OldestVersion != "" && pypi.Compare(r.version, t.OldestVersion) < 0
	return pypi.Stable(r.version) && !yanked && !old
}

// python is the newest of the minors that the release fits, or empty.
func (r candidate) python(minors []string) string {
	for _, minor := range newestFirst(minors) {
		if r.fit(minor) {
			return minor
		}
	}
	return ""
}

func (r candidate) fit(minor string) bool {
	fits := func(p pypi.Release) bool {
		return slices.ContainsFunc(p.Wheels, func(w pypi.Wheel) bool { return w.FitsPlatform(r.arch) && w.FitsPython(minor) })
	}
	ofTheTime := func(p pypi.Release) bool {
		return (r.until.IsZero() || !p.Uploaded.After(r.until)) && pypi.Stable(p.Version) && fits(p)
	}
	for _, p := range r.packages {
		if !fits(p) {
			return false
		}
	}
	for _, releases := range r.others {
		if !slices.ContainsFunc(releases, ofTheTime) {
			return false
		}
	}
	return true
}

// future is a minor that no Python has yet: what fits it fits all that come.
const future = 99

// offer says in words which Pythons the release has wheels for.
func (r candidate) offer() string {
	var minors []string
	for n := range future {
		if minor := "3." + strconv.Itoa(n); r.fit(minor) {
			minors = append(minors, minor)
		}
	}
	switch {
	case len(minors) == 0:
		return "no wheels for Linux on " + r.arch
	case r.fit("3." + strconv.Itoa(future)):
		return "wheels for Python " + minors[0] + " and newer"
	}
	return "wheels for Python " + list(minors)
}

func (r candidate) release(t warpket.Template, pythons []string) Release {
	return Release{SDK: t.SDK, Version: r.version, Python: r.python(pythons), Packages: t.Packages(r.version), Until: r.until}
}

func interpreter(version string, pythons []string) (Release, error) {
	minors := newestFirst(pythons)
	if len(minors) == 0 {
		return Release{}, warpket.Errorf(warpket.Invalid, "no node has a Python").At("sdkVersion")
	}
	if version == "" {
		version = minors[0]
	}
	if !slices.Contains(minors, version) {
		return Release{}, warpket.Errorf(warpket.Invalid, "no node has Python %s; there is %s", version, list(minors)).At("sdkVersion")
	}
	return Release{SDK: Python, Version: version, Python: version, Packages: map[string]string{}}, nil
}

// nearest names the offered release that is closest to a version: the one just
// below it, or else the one just above.
func nearest(t warpket.Template, all []candidate, version string, pythons []string) string {
	above := ""
	for _, r := range all { // newest first
		if !r.usual(t) || r.python(pythons) == "" {
			continue
		}
		if pypi.Compare(r.version, version) < 0 {
			return "; nearest: " + r.version
		}
		above = r.version
	}
	if above == "" {
		return ""
	}
	return "; nearest: " + above
}

func example(all []candidate) string {
	for _, r := range all {
		if pypi.Stable(r.version) {
			return r.version
		}
	}
	return "1.0.2"
}

func newestFirst(minors []string) []string {
	sorted := slices.Clone(minors)
	slices.SortFunc(sorted, func(a, b string) int { return pypi.Compare(b, a) })
	return slices.Compact(sorted)
}

func list(minors []string) string {
	if len(minors) == 0 {
		return "none"
	}
	sorted := newestFirst(minors)
	slices.Reverse(sorted)
	return strings.Join(sorted, ", ")
}
