import cupy

# One thread for each cell of the result.
SOURCE = r"""
extern "C" __global__ void saxpy(float a, const float *x, const float *y, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a * x[i] + y[i];
}
"""


def handler(event, context):
    """Computes a * x + y by a kernel of its own, and checks it against CuPy.

    The input is {"n": 1000000, "a": 2}. With the target compile the kernel is
    only compiled, which takes no GPU.
    """
    if context.target == "compile":
        from cupy.cuda import nvrtc

        program = nvrtc.createProgram(SOURCE, "saxpy.cu", (), ())
        try:
            nvrtc.compileProgram(program, ("-arch=sm_80", "-lineinfo"))
        finally:
            print(nvrtc.getProgramLog(program))
        cubin = nvrtc.getCUBIN(program)
        print("compiled for sm_80:", len(cubin), "bytes")
        return {"target": "compile", "bytes": len(cubin)}

    n, a = int(event.get("n", 1_000_000)), float(event.get("a", 2))
    random = cupy.random.RandomState(context.seed)
    x, y = random.rand(n, dtype=cupy.float32), random.rand(n, dtype=cupy.float32)
    out = cupy.empty_like(x)
    saxpy = cupy.RawKernel(SOURCE, "saxpy")
    saxpy(((n + 255) // 256,), (256,), (cupy.float32(a), x, y, out, cupy.int32(n)))
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print("computed", n, "values on", device)
    error = float(abs(out - (a * x + y)).max())
    return {"n": n, "worst_error": error, "target": "gpu", "device": device}
