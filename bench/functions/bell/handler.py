"""Entangles two qubits and measures them. Every peer runs this very file."""

import math

from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator

SIMULATOR = AerSimulator()
SHOTS = 1024


def handler(event, context):
    """Returns how often each outcome was measured."""
    circuit = QuantumCircuit(2)
    circuit.ry(math.pi / 2, 0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return {"counts": SIMULATOR.run(circuit, shots=SHOTS).result().get_counts()}
