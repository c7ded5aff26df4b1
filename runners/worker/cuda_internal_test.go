package worker

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ptxas = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3addPf' for 'sm_80'
ptxas info    : Function properties for _Z3addPf
    0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 1024 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3addPf' for 'sm_100a'
ptxas info    : Used 14 registers
`

func TestWhatKernelsUseIsReadFromTheCompiler(t *testing.T) {
	t.Parallel()
	want := []Kernel{
		{Name: "_Z3addPf", Architecture: "8.0", Registers: 12, SharedMemory: 1024, SpillStores: 8, SpillLoads: 4},
		{Name: "_Z3addPf", Architecture: "10.0", Registers: 14},
	}
	if diff := cmp.Diff(want, kernels(ptxas)); diff != "" {
		t.Error(diff)
	}
	if got := kernels("Used 3 registers\nprinted by somebody\n"); len(got) != 0 {
		t.Errorf("without kernels it has %+v", got)
	}
}

func TestTheFirstErrorOfACompilerIsFound(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"main.cu(2): warning #177-D: unused\nmain.cu(3): error: expected a \";\"\nmain.cu(9): error: more\n": `main.cu(3): error: expected a ";"`,
		"main.cu:1:10: fatal error: x.h: No such file or directory\n":                                        "main.cu:1:10: fatal error: x.h: No such file or directory",
		"nvcc fatal   : Unsupported gpu architecture 'compute_130'\n":                                        "nvcc fatal   : Unsupported gpu architecture 'compute_130'",
		"an error without a place\n": "otherwise",
		"":                           "otherwise",
	} {
		if got := firstError(log, "otherwise"); got != want {
			t.Errorf("of %q it is %q, want %q", log, got, want)
		}
	}
}

func TestOnlyTheFirstOfALogIsKept(t *testing.T) {
	t.Parallel()
	h := &head{}
	for range 3 {
		if n, err := h.Write(make([]byte, MaxBuildLog/2)); n != MaxBuildLog/2 || err != nil {
			t.Fatalf("wrote %d (%v)", n, err)
		}
	}
	if len(h.kept) != MaxBuildLog {
		t.Errorf("%d bytes are kept", len(h.kept))
	}
}
