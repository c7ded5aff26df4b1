package warpket_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func TestTheDigestOfAnImagesSnapshotIsThatOfWhatRuns(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("1", 64)
	image := warpket.Image{Reference: "registry.example/bell:1", Pinned: "registry.example/bell@" + digest, Command: []string{"bell", "-x"}}
	want := image.SnapshotDigest("runtime")
	if image.Digest() != digest {
		t.Errorf("its digest is %s", image.Digest())
	}
	moved := image
	moved.Reference, moved.Pinned = "other.example/bell", "other.example/bell@"+digest
	if moved.SnapshotDigest("runtime") != want {
		t.Error("where it is kept decides its digest")
	}
	others := map[string]bool{want: true, image.SnapshotDigest("other"): true}
	for _, change := range []func(i *warpket.Image){
		func(i *warpket.Image) { i.Pinned = strings.ReplaceAll(i.Pinned, "1", "2") },
		func(i *warpket.Image) { i.Command = []string{"bell -x"} },
		func(i *warpket.Image) { i.Command = nil },
	} {
		other := image
		change(&other)
		others[other.SnapshotDigest("runtime")] = true
	}
	if len(others) != 5 {
		t.Errorf("of 5 snapshots %d digests differ", len(others))
	}
	none := warpket.Image{Pinned: image.Pinned, Command: []string{}}
	if none.SnapshotDigest("runtime") != (warpket.Image{Pinned: image.Pinned}).SnapshotDigest("runtime") {
		t.Error("no command differs from an empty one")
	}
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		command []string
		want    warpket.Kind
	}{
		"none":              {nil, ""},
		"a program":         {[]string{"bell", "", "-x"}, ""},
		"no program":        {[]string{"", "-x"}, warpket.Invalid},
		"a NUL":             {[]string{"bell", "a\x00"}, warpket.Invalid},
		"more than 64 KiB":  {[]string{"bell", strings.Repeat("x", 64<<10)}, warpket.TooLarge},
		"as much as may be": {[]string{"bell", strings.Repeat("x", 64<<10-6)}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantKind(t, warpket.CheckCommand(test.command), test.want)
		})
	}
}

func TestTheSecretOfARegistryHasOneOfTwoForms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value string
		want  warpket.RegistryAuth // zero means refused
	}{
		"a user and password":     {`{"username": "u", "password": "canary"}`, warpket.RegistryAuth{User: "u", Password: "canary"}},
		"a token":                 {`{"token": "canary"}`, warpket.RegistryAuth{Token: "canary"}},
		"both":                    {`{"username": "u", "password": "canary", "token": "canary"}`, warpket.RegistryAuth{}},
		"a user and a token":      {`{"username": "u", "token": "canary"}`, warpket.RegistryAuth{}},
		"a user alone":            {`{"username": "canary"}`, warpket.RegistryAuth{}},
		"neither":                 {`{}`, warpket.RegistryAuth{}},
		"something else":          {`{"token": "canary", "canary": 1}`, warpket.RegistryAuth{}},
		"more than one":           {`{"token": "canary"}{}`, warpket.RegistryAuth{}},
		"a token as it is":        {`canary`, warpket.RegistryAuth{}},
		"a token of another type": {`{"token": ["canary"]}`, warpket.RegistryAuth{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := warpket.ParseRegistryAuth(test.value)
			if got != test.want || (err == nil) != (test.want != warpket.RegistryAuth{}) {
				t.Errorf("it is %+v, %v", got == test.want, err)
			}
			if err != nil && (warpket.KindOf(err) != warpket.Invalid || strings.Contains(err.Error(), "canary")) {
				t.Errorf("the error is %v", err)
			}
			b, err := json.Marshal(struct{ Auth warpket.RegistryAuth }{got})
			if text := fmt.Sprintf("%v %+v %#v %s %s", got, got, got, got, b); err != nil || strings.Contains(text, "canary") {
				t.Errorf("it prints as %s, %v", text, err)
			}
		})
	}
}
