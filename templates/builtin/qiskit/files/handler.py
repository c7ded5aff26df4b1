from qiskit import QuantumCircuit


def handler(event, context):
    """Entangles two qubits and measures them.

    event is the input of the execution, context tells about the execution.
    What is returned is the result; what is printed is the log.
    """
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)  # qubit 0: as likely 0 as 1
    circuit.cx(0, 1)  # qubit 1 follows qubit 0
    circuit.measure([0, 1], [0, 1])

    # The simulator and its transpiler are kept between executions.
    job = context.backend().run(context.transpile(circuit), shots=context.shots)
    counts = job.result().get_counts()
    print("measured", counts)
    return {"counts": counts}
