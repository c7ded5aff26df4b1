"""What a handler gets beside its event."""

import time


class Context:
    """One execution, as its handler sees it."""

    def __init__(self, load, run, started, is_warm, simulators):
        self.execution_id = run["execution_id"]
        self.function_id = run["function_id"]
        self.function = run["function"]
        self.version = run["version"]
        self.sdk = load["sdk"]
        self.sdk_version = load["sdk_version"]
        self.shots = run["shots"]
        self.seed = run["seed"]
        self.target = run["target"]
        self.attempt = run["attempt"]
        self.is_warm = is_warm
        self._ends = started + run["timeout"]
        self._simulators = simulators

    def remaining_time(self):
        """Seconds until the execution is stopped."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def deadline(self):
        """When the execution is stopped, in seconds since 1970."""
        return time.time() + self._ends - time.monotonic()

    def log(self, *values):
        """Writes a line to the execution's log, as print does."""
        print(*values, flush=True)

    def backend(self, **options):
        """An AerSimulator, the same one for the same options.

        Its runs draw their seeds from the execution's: the same seed gives
        the same counts, run by run. A seed_simulator of your own wins.
        """
        return self._simulators.backend(options)

    def transpile(self, circuits, backend=None, optimization_level=1):
        """Circuits as the backend (context.backend() unless given) can run them."""
        return self._simulators.transpile(circuits, backend, optimization_level)
