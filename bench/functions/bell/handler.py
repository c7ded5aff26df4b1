"""Entangles two qubits and measures them. Every peer runs this very file."""

import math
import time

from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator

SIMULATOR = AerSimulator()
SHOTS = 1024


def handler(event, context):
    """Returns how often each outcome was measured, and the time that took."""
    started = time.monotonic()
    circuit = QuantumCircuit(2)
    circuit.ry(math.pi / 2, 0)
    circuit.cx(0, 1)
    circuit.measure_all()
    counts = SIMULATOR.run(circuit, shots=SHOTS).result().get_counts()
    return {"counts": counts, "circuitMs": (time.monotonic() - started) * 1000}
