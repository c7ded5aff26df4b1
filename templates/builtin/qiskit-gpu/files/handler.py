from qiskit import QuantumCircuit


def handler(event, context):
    """Entangles qubits (GHZ) and measures them.

    The input is {"qubits": 2}. The target gpu simulates on the GPU, the target
    simulator on the node's cores. Neither takes the place of the other.
    """
    n = int(event.get("qubits", 2))
    circuit = QuantumCircuit(n, n)
    circuit.h(0)
    for i in range(1, n):
        circuit.cx(0, i)
    circuit.measure(range(n), range(n))

    device = "GPU" if context.target == "gpu" else "CPU"
    backend = context.backend(method="statevector", device=device)
    job = backend.run(context.transpile(circuit, backend), shots=context.shots)
    counts = job.result().get_counts()
    print("measured", counts, "on the", device)
    return {"counts": counts, "target": context.target, "device": device}
