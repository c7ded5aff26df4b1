package warpket_test

import (
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func TestACreatedRuntimeIsChecked(t *testing.T) {
	t.Parallel()
	image := &warpket.Image{Reference: "registry.example/python:3"}
	tests := map[string]struct {
		runtime warpket.Runtime
		want    warpket.Kind
	}{
		"of a build":                   {warpket.Runtime{Name: "Python 3.7, for tests", BaseID: "b"}, ""},
		"of an image":                  {warpket.Runtime{Name: "日本", Image: image, Credentials: "REGISTRY"}, ""},
		"without a name":               {warpket.Runtime{BaseID: "b"}, warpket.Invalid},
		"the longest name":             {warpket.Runtime{Name: strings.Repeat("x", warpket.MaxRuntimeName), BaseID: "b"}, ""},
		"a name that is longer":        {warpket.Runtime{Name: strings.Repeat("x", warpket.MaxRuntimeName+1), BaseID: "b"}, warpket.Invalid},
		"a name with spaces around it": {warpket.Runtime{Name: " x", BaseID: "b"}, warpket.Invalid},
		"a name with a line break":     {warpket.Runtime{Name: "a\nb", BaseID: "b"}, warpket.Invalid},
		"a name that is not UTF-8":     {warpket.Runtime{Name: "\xff", BaseID: "b"}, warpket.Invalid},
		"a NUL in the description":     {warpket.Runtime{Name: "x", Description: "\x00", BaseID: "b"}, warpket.Invalid},
		"credentials for a build":      {warpket.Runtime{Name: "x", BaseID: "b", Credentials: "REGISTRY"}, warpket.Invalid},
		"credentials that cannot be":   {warpket.Runtime{Name: "x", Image: image, Credentials: "a b"}, warpket.Invalid},
		"public, with credentials":     {warpket.Runtime{Name: "x", Image: image, Credentials: "REGISTRY", Public: true}, warpket.Invalid},
		"a command without a program":  {warpket.Runtime{Name: "x", Image: &warpket.Image{Command: []string{""}}}, warpket.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantKind(t, test.runtime.Check(), test.want)
		})
	}
}

func TestWhoMayChangeARuntime(t *testing.T) {
	t.Parallel()
	private := warpket.Runtime{BaseID: "b"}
	public := warpket.Runtime{Image: &warpket.Image{}, Public: true}
	build := warpket.Runtime{}
	for role, want := range map[warpket.Role][3]warpket.Kind{
		warpket.Member:   {"", warpket.Denied, warpket.Denied},
		warpket.Admin:    {"", warpket.Denied, warpket.Denied},
		warpket.Operator: {"", "", warpket.Denied},
	} {
		for i, r := range []warpket.Runtime{private, public, build} {
			wantKind(t, r.MayBeChangedBy(role), want[i])
		}
	}
}

func TestARuntimeIsRemadeWhenItIsSettledAndNothingRuns(t *testing.T) {
	t.Parallel()
	tests := map[warpket.RuntimeStatus][2]warpket.Kind{ // with nothing open, and with something
		warpket.RuntimePending:   {warpket.Conflict, warpket.Conflict},
		warpket.RuntimeBuilding:  {warpket.Conflict, warpket.Conflict},
		warpket.RuntimeAvailable: {"", warpket.Conflict},
		warpket.RuntimeFailed:    {"", warpket.Conflict},
	}
	for status, want := range tests {
		for open, want := range want {
			wantKind(t, warpket.Runtime{Status: status}.CheckRemake(open), want)
		}
	}
}

func TestASnapshotsDigestIsOverAllOfItsParts(t *testing.T) {
	t.Parallel()
	sdk, platform := warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "1", Python: "3.11", Platform: "linux/amd64"}, warpket.ImageRuntime("linux/amd64")
	files, image := []warpket.File{file("a.py")}, &warpket.Image{Pinned: "registry.example/python@sha256:1"}
	of := func(s warpket.Snapshot, r warpket.RuntimeKey) string { return s.DigestFor(r) }
	both := of(warpket.Snapshot{Files: files, Entry: "x", Image: image}, platform)
	different := map[string]bool{
		both: true,
		of(warpket.Snapshot{Files: files, Entry: "x"}, sdk):                                                                            true,
		of(warpket.Snapshot{Image: image}, platform):                                                                                   true,
		of(warpket.Snapshot{Files: []warpket.File{file("b.py")}, Entry: "x", Image: image}, platform):                                  true,
		of(warpket.Snapshot{Files: files, Entry: "y", Image: image}, platform):                                                         true,
		of(warpket.Snapshot{Files: files, Entry: "x", Image: &warpket.Image{Pinned: "registry.example/python@sha256:2"}}, platform):    true,
		of(warpket.Snapshot{Files: files, Entry: "x", Image: &warpket.Image{Pinned: image.Pinned, Command: []string{"sh"}}}, platform): true,
	}
	if len(different) != 7 {
		t.Errorf("of 7 snapshots %d digests differ", len(different))
	}
	if of(warpket.Snapshot{Files: files, Entry: "x"}, sdk) != warpket.SnapshotDigest(files, "x", sdk.String()) || of(warpket.Snapshot{Image: image}, platform) != image.SnapshotDigest(platform.String()) {
		t.Error("snapshots of files, or of images, do not have the digests that they had")
	}
	own := platform
	own.Requirements = "of the project"
	if of(warpket.Snapshot{Files: files, Entry: "x", Image: image}, own) != both {
		t.Error("whose runtime it is decides its digest")
	}
}

func TestTheSettingsOfAFunctionAreThoseOfItsKind(t *testing.T) {
	t.Parallel()
	settings := warpket.Settings{Entry: "index.js handler", Resources: warpket.DefaultResources}
	credentials := warpket.Settings{Credentials: "REGISTRY", Resources: warpket.DefaultResources}
	tests := map[string]struct {
		function warpket.Function
		want     warpket.Kind
	}{
		"files with any entry":              {warpket.Function{Settings: settings}, warpket.Invalid},
		"files in an image with any entry":  {warpket.Function{Settings: settings, InImage: true}, ""},
		"files in an image without one":     {warpket.Function{Settings: credentials, InImage: true}, ""},
		"files in an image, and a NUL":      {warpket.Function{Settings: warpket.Settings{Entry: "\x00", Resources: warpket.DefaultResources}, InImage: true}, warpket.Invalid},
		"files in an image, a secret":       {warpket.Function{Settings: warpket.Settings{Credentials: "a b", Resources: warpket.DefaultResources}, InImage: true}, warpket.Invalid},
		"files in an image, too many tries": {warpket.Function{Settings: warpket.Settings{Retries: 11, Resources: warpket.DefaultResources}, InImage: true}, warpket.Invalid},
		"an image with an entry":            {warpket.Function{Settings: settings, Image: &warpket.Image{}}, warpket.Invalid},
		"an image":                          {warpket.Function{Settings: credentials, Image: &warpket.Image{}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantKind(t, test.function.CheckSettings(), test.want)
		})
	}
}
