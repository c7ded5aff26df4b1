import os

import numpy as np

cuda = None  # Numba's, which the first call imports


def import_numba(target):
    """Imports Numba for a target: it decides then whether it simulates.

    A process serves one target only.
    """
    global cuda
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1" if target == "sim" else "0"
    from numba import cuda as imported

    cuda = imported


def vecadd(a, b, c):
    i = cuda.grid(1)
    if i < c.size:
        c[i] = a[i] + b[i]


def handler(event, context):
    """Adds two vectors: on a GPU, on Numba's simulator, or for the compiler only.

    The input is {"n": 1000}. The simulator has a thread for each of CUDA's:
    keep it small there.
    """
    import_numba(context.target)

    if context.target == "compile":
        from numba import float32

        ptx, _ = cuda.compile_ptx(vecadd, (float32[:], float32[:], float32[:]), cc=(8, 0))
        print(ptx)
        return {"target": "compile", "lines": ptx.count("\n")}

    n = int(event.get("n", 1000))
    a, b = np.arange(n, dtype=np.float32), np.ones(n, dtype=np.float32)
    c = np.zeros(n, dtype=np.float32)
    cuda.jit(vecadd)[(n + 127) // 128, 128](a, b, c)
    device = "cuda-sim" if context.target == "sim" else cuda.get_current_device().name
    print("added", n, "pairs on", device)
    return {
        "n": n,
        "worst_error": float(abs(c - (a + b)).max()),
        "target": context.target,
        "device": device,
    }
