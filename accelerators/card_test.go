//go:build cgo

package accelerators

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

// adds is a program that adds two vectors on the GPU for a second, by the
// driver's own interface: it needs no toolkit.
const adds = `
import ctypes, json, time
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *args):
    code = getattr(cuda, name)(*args)
    if code:
        raise SystemExit(f"{name}: CUDA says {code}")
call("cuInit", 0)
count, device = ctypes.c_int(), ctypes.c_int()
call("cuDeviceGetCount", ctypes.byref(count))
call("cuDeviceGet", ctypes.byref(device), 0)
context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
ptx = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n) {
  .reg .pred %p<2>; .reg .b32 %r<6>; .reg .f32 %f<4>; .reg .b64 %d<8>;
  ld.param.u64 %d1, [a]; ld.param.u64 %d2, [b]; ld.param.u64 %d3, [c]; ld.param.u32 %r5, [n];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.s32 %r4, %r1, %r2, %r3;
  setp.ge.u32 %p1, %r4, %r5; @%p1 bra done;
  cvta.to.global.u64 %d1, %d1; cvta.to.global.u64 %d2, %d2; cvta.to.global.u64 %d3, %d3;
  mul.wide.u32 %d4, %r4, 4; add.s64 %d5, %d1, %d4; add.s64 %d6, %d2, %d4; add.s64 %d7, %d3, %d4;
  ld.global.f32 %f1, [%d5]; ld.global.f32 %f2, [%d6]; add.f32 %f3, %f1, %f2; st.global.f32 [%d7], %f3;
done:
  ret;
}
"""
call("cuModuleLoadData", ctypes.byref(module), ptx)
call("cuModuleGetFunction", ctypes.byref(function), module, b"add")
n = 1 << 26
host = (ctypes.c_float * n)(*([1.5] * 1024))
a, b, c = (ctypes.c_uint64() for _ in range(3))
for pointer in (a, b, c):
    call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(4 * n))
for pointer in (a, b):
    call("cuMemcpyHtoD_v2", pointer, host, ctypes.c_size_t(4 * n))
size = ctypes.c_uint32(n)
arguments = (ctypes.c_void_p * 4)(*(ctypes.cast(ctypes.byref(x), ctypes.c_void_p) for x in (a, b, c, size)))
end = time.monotonic() + 1
while time.monotonic() < end:
    call("cuLaunchKernel", function, n // 256, 1, 1, 256, 1, 1, 0, None, arguments, None)
    call("cuCtxSynchronize")
call("cuMemcpyDtoH_v2", host, c, ctypes.c_size_t(4 * n))
print(json.dumps({"gpus": count.value, "sums": [host[0], host[1023], host[1024]]}), flush=True)
`

// TestAProgramInASandboxComputesOnTheCard needs a GPU and a Python.
func TestAProgramInASandboxComputesOnTheCard(t *testing.T) {
	t.Parallel()
	g := present(t)
	devices := g.Devices()
	i := slices.IndexFunc(devices, warpket.Device.Leasable)
	if i < 0 {
		t.Fatalf("no GPU can be leased: %+v", devices)
	}
	// Of a virtual environment, the Python that it is made of.
	found, err := exec.CommandContext(t.Context(), "python3", "-c", "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix)").Output()
	if err != nil {
		t.Fatal(err)
	}
	python, folder, _ := strings.Cut(strings.TrimSpace(string(found)), " ")
	lease, err := g.Take([]string{devices[i].ID})
	if err != nil {
		t.Fatal(err)
	}
	launcher, err := sandbox.NewNamespaces(t.Context(), "card")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = launcher.Close() })
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	access := lease.Access()
	if folder != "/usr" { // which every sandbox has
		access.Files = append(access.Files, folder)
	}
	stop := lease.Measure()
	box, err := launcher.Start(t.Context(), sandbox.Spec{
		Name: "card", Argv: []string{python, "-c", adds}, Env: append(access.Env, "PATH=/usr/bin:/bin", "HOME=/tmp"), Stdout: theirs, Stderr: theirs,
		ReadOnly: access.Files, Devices: access.Devices, Limits: sandbox.Limits{Memory: 4 << 30, Processes: 256, OpenFiles: 1024},
	})
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	exit, err := box.Wait(t.Context())
	var used warpket.Usage
	stop(&used)
	var got struct {
		GPUs int
		Sums []float64
	}
	if err != nil || !exit.OK() || json.Unmarshal(text, &got) != nil || got.GPUs != 1 || !slices.Equal(got.Sums, []float64{3, 3, 0}) {
		t.Fatalf("it ended with %s (%v) and said %s", exit, err, text)
	}
	t.Logf("on %s it used %+v", devices[i].Name, used)
	if least := int64(3 * 4 << 26); used.GPUMemory < least || used.GPUSeconds <= 0 || used.GPUJoules <= 0 && devices[i].ParentID == "" {
		t.Errorf("it used %+v, with %d bytes at least", used, least)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	if faults := lease.Returned(10 * time.Second); faults != nil {
		t.Errorf("it has left %v", faults)
	}
}
