import cudaq


def handler(event, context):
    """Entangles qubits (GHZ) and measures them.

    The input is {"qubits": 2}. The target gpu simulates on the GPU (CUDA-Q's
    nvidia), the target simulator on the node's cores (qpp-cpu).
    """
    simulator = "nvidia" if context.target == "gpu" else "qpp-cpu"
    cudaq.set_target(simulator)
    cudaq.set_random_seed(context.seed)

    kernel = cudaq.make_kernel()
    qubits = kernel.qalloc(int(event.get("qubits", 2)))
    kernel.h(qubits[0])
    for i in range(1, int(event.get("qubits", 2))):
        kernel.cx(qubits[0], qubits[i])
    kernel.mz(qubits)

    counts = dict(cudaq.sample(kernel, shots_count=context.shots).items())
    print("measured", counts, "on", simulator)
    return {"counts": counts, "target": context.target, "simulator": simulator}
