"""Qiskit simulators and pass managers, kept between executions."""

import os

_SEED_STEP = 0x9E3779B1  # odd, so that the runs of an execution get different seeds
_SEEDS = 1 << 31


class Simulators:
    """The simulators of one worker."""

    def __init__(self):
        self._memory = 0
        self._simulators = {}
        self._managers = {}
        self._class = None
        self.start(0)

    def start(self, seed):
        """Begins an execution: its runs draw seeds from this one."""
        self._seed = seed
        self._runs = 0

    def limit(self, memory):
        """Tells the simulators how many bytes there are: they would count the machine's."""
        self._memory = memory
        for simulator in self._simulators.values():
            simulator.set_options(max_memory_mb=memory >> 20)

    def prepare(self):
        """Makes what takes longest, without starting a thread."""
        self._manager_of(self.backend({}), 1)

    def warm(self):
        """Does once what the first circuit would have to wait for: 60 ms."""
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(1, 1)
        circuit.h(0)
        circuit.measure(0, 0)
        self.backend({}).run(self.transpile(circuit, None, 1), shots=1).result()

    def backend(self, options):
        """An AerSimulator with options, the same one each time it can be."""
        try:
            key = tuple(sorted(options.items()))
            return self._simulators[key]
        except KeyError:
            simulator = self._simulators[key] = self._make(options)
            return simulator
        except TypeError:  # options that cannot be compared, such as noise models
            return self._make(options)

    def transpile(self, circuits, backend, optimization_level):
        """Transpiles with a pass manager that is made once.

        Building one costs 50 ms, since Aer makes its target anew each of the
        many times that it is read.
        """
        return self._manager_of(backend or self.backend({}), optimization_level)(circuits)

    def _manager_of(self, backend, optimization_level):
        key = (id(backend), optimization_level)
        if key not in self._managers:
            if len(self._managers) >= 32:
                self._managers.clear()
            # The backend is kept too, so that no other gets its id.
            self._managers[key] = backend, _manager(backend, optimization_level)
        return self._managers[key][1]

    def _next_seed(self):
        seed = (self._seed + self._runs * _SEED_STEP) % _SEEDS
        self._runs += 1
        return seed

    def _make(self, options):
        if self._class is None:
            self._class = self._seeded()
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        defaults = {"max_parallel_threads": threads}
        if self._memory:
            defaults["max_memory_mb"] = self._memory >> 20
        return self._class(**{**defaults, **options})

    def _seeded(self):
        try:
            from qiskit_aer import AerSimulator
        except ImportError as error:
            raise RuntimeError(
                "context.backend() and context.transpile() need the qiskit SDK"
            ) from error
        simulators = self

        class SeededSimulator(AerSimulator):
            """An AerSimulator whose runs draw their seeds from the execution's."""

            def run(self, *args, **options):
                if self.options.seed_simulator is None:
                    options.setdefault("seed_simulator", simulators._next_seed())
                return super().run(*args, **options)

        return SeededSimulator


def _manager(backend, level):
    try:
        from qiskit.transpiler.preset_passmanagers import generate_preset_pass_manager

        return generate_preset_pass_manager(level, target=backend.target, seed_transpiler=0).run
    except (ImportError, AttributeError, TypeError):  # before 0.45, or not an Aer backend
        from qiskit import transpile

        return lambda circuits: transpile(
            circuits, backend, optimization_level=level, seed_transpiler=0
        )
