package templates_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMinorsOfAToolkitAreItsVersions(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t, "amd64")
	template, err := catalog.Template("CUDA")
	if err != nil {
		t.Fatal(err)
	}
	here := []string{"3.11"}
	versions, err := catalog.Versions(t.Context(), template, here)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"13.2", "13.0"}, versions); diff != "" { // 13.1 lacks a package
		t.Error(diff)
	}
	got, err := catalog.Resolve(t.Context(), template, "13.2", here)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"nvidia-cuda-nvcc": "==13.2.*", "nvidia-cuda-crt": "==13.2.*", "nvidia-nvvm": "==13.2.*", "nvidia-cuda-runtime": "==13.2.*", "nvidia-cuda-cccl": "==13.2.*"}
	if diff := cmp.Diff(want, got.Packages); diff != "" || got.SDK != "cuda" || got.Version != "13.2" || template.DriverFor(got.Version) != "13.2" {
		t.Errorf("13.2 is %+v: %s", got, diff)
	}
	for version, message := range map[string]string{
		"12.9": "cuda 12.9 is too old: the oldest that the template CUDA takes is 13.0",
		"13.1": "13.1 is not a release of cuda; nearest: 13.0",
	} {
		_, err := catalog.Resolve(t.Context(), template, version, here)
		checkInvalid(t, err, message)
	}
}

// program reads its input and writes it as its result, with the header of the
// template.
const program = `#include "warpket.h"
int main() {
    return warpket::run([] {
        auto in = warpket::input();
        warpket::result({{"n", in["n"].integer(7, 1, 100)}, {"all", in}, {"seed", warpket::seed()}});
    });
}
`

func TestTheHeaderOfCUDAReadsAndWritesJSON(t *testing.T) {
	t.Parallel()
	compiler, err := exec.LookPath("g++")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("there is no g++")
	}
	dir := t.TempDir()
	source, out := filepath.Join(dir, "main.cpp"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command(compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", "builtin/cuda/files", source, "-o", out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for input, want := range map[string]string{
		``:         `{"all":null,"n":7,"seed":3}`,
		`{"n": 5}`: `{"all":{"n":5},"n":5,"seed":3}`,
		`{"a": [1, -2.5e3, true, null, "x\n\"\\\u00e9\ud83d\ude00"], "b": {}}`: `{"all":{"a":[1,-2500,true,null,"x\u000a\"\\é😀"],"b":{}},"n":7,"seed":3}`,
		`{"n": 101}`:               "a whole number from 1 to 100 is expected",
		`{"n": "5"}`:               "a number is expected",
		`{"n": 5`:                  "the input is not JSON at byte 7",
		`[1,]`:                     "the input is not JSON at byte 3",
		strings.Repeat("[", 10000): "the input is not JSON",
	} {
		cmd := exec.Command(out)
		cmd.Stdin, cmd.Env = strings.NewReader(input), []string{"WARPKET_SEED=3"} // the result goes to the output
		b, err := cmd.CombinedOutput()
		if got := string(b); strings.HasPrefix(want, "{") && got != want || !strings.Contains(got, want) || (err == nil) != strings.HasPrefix(want, "{") {
			t.Errorf("%.40q is answered %q (%v), want %q", input, got, err, want)
		}
	}
}
