"""Results as JSON.

What JSON lacks becomes an object with a "__type__": complex numbers, numbers
that are not finite, integers that a double cannot hold, bytes, large arrays
and the objects of SDKs. Nothing is ever pickled. Everything else is refused,
with its type and its place in the result.
"""

import base64
import contextlib
import dataclasses
import enum
import io
import json
import math

_MAX_DEPTH = 200
_MAX_EXACT = 1 << 53  # above it a double, which most JSON readers use, loses digits
_MAX_LISTED = 1024  # elements; a larger array is sent as npy


class NotEncodable(Exception):
    """A value has no JSON form. Its text says where in the result it is."""

    def __init__(self, what):
        super().__init__(what)
        self._what = what
        self._path = []

    def under(self, step):
        """Says that the value is below this step. Inner steps come first."""
        self._path.append(step)

    def __str__(self):
        path = "result" + "".join(reversed(self._path))
        if len(path) > 200:
            path = path[:100] + "..." + path[-100:]
        return f"{path} {self._what}"


def dumps(value):
    """The value as UTF-8 JSON."""
    return json.dumps(encode(value), allow_nan=False, separators=(",", ":")).encode()


def encode(value, depth=0):
    """The value in terms of dict, list, str, int, float, bool and None."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return _int(value)
    if kind is float:
        return value if math.isfinite(value) else {"__type__": "float", "value": repr(value)}
    if depth >= _MAX_DEPTH:
        raise NotEncodable(f"is nested deeper than {_MAX_DEPTH} levels")
    if kind is dict:
        return _dict(value, depth)
    if kind is list or kind is tuple:
        return _items(value, depth)
    for base in kind.__mro__:
        encoder = _ENCODERS.get((base.__module__.partition(".")[0], base.__qualname__))
        if encoder is not None:
            return encoder(value, depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dict({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth)
    module = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    raise NotEncodable(f"is a {module}{kind.__qualname__}, which has no JSON form")


def _items(values, depth):
    out = []
    try:
        for v in values:
            out.append(encode(v, depth + 1))
    except NotEncodable as error:
        error.under(f"[{len(out)}]")
        raise
    return out


def _dict(value, depth):
    out = {}
    for key, v in value.items():
        name = key if type(key) is str else _key(key)
        if name in out:
            raise NotEncodable(f"has two keys that are both {name!r} in JSON")
        try:
            out[name] = encode(v, depth + 1)
        except NotEncodable as error:
            error.under(f"[{key!r}]")
            raise
    return out


def _int(value):
    if -_MAX_EXACT <= value <= _MAX_EXACT:
        return int(value)
    return {"__type__": "int", "value": _decimal(int(value))}


def _decimal(value):
    try:
        return str(value)
    except ValueError:  # newer Pythons refuse to print thousands of digits
        return hex(value)


def _key(key):
    if isinstance(key, enum.Enum):
        return _key(key.value)
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if hasattr(key, "item"):  # a numpy scalar
        key = key.item()
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    raise NotEncodable(f"has a key of type {type(key).__qualname__}; use strings")


def _set(value, depth):
    try:
        items = sorted(value)  # a set has no order of its own: give it one that stays
    except TypeError:
        items = value
    return [encode(v, depth) for v in items]


def _bytes(value, depth):
    return {"__type__": "bytes", "b64": base64.b64encode(value).decode()}


def _complex(value, depth):
    return {"__type__": "complex", "re": encode(value.real), "im": encode(value.imag)}


def _numpy_scalar(value, depth):
    item = value.item()
    if type(item) is type(value):  # longdouble, which has no counterpart in Python
        item = complex(value) if "complex" in type(value).__name__ else float(value)
    return encode(item, depth)


def _ndarray(value, depth):
    if value.dtype.kind == "O" or (value.size <= _MAX_LISTED and value.dtype.kind in "biufU"):
        return encode(value.tolist(), depth)
    import numpy

    buffer = io.BytesIO()
    try:
        numpy.save(buffer, value, allow_pickle=False)
    except ValueError:
        raise NotEncodable(f"is an array of {value.dtype}, which has no JSON form") from None
    return {
        "__type__": "ndarray",
        "dtype": str(value.dtype),
        "shape": list(value.shape),
        "npy": base64.b64encode(buffer.getvalue()).decode(),
    }


def _circuit(value, depth):
    from qiskit import qpy

    buffer = io.BytesIO()
    qpy.dump(value, buffer)
    out = {
        "__type__": "qiskit.QuantumCircuit",
        "qpy": base64.b64encode(buffer.getvalue()).decode(),
        "num_qubits": value.num_qubits,
        "depth": value.depth(),
    }
    with contextlib.suppress(Exception):  # for people to read; some circuits have no such form
        from qiskit import qasm3

        out["qasm3"] = qasm3.dumps(value)
    return out


def _qiskit_result(value, depth):
    try:
        counts = value.get_counts()
    except Exception:  # noqa: BLE001 - nothing was measured
        return encode(value.to_dict(), depth)
    return {"counts": encode(counts, depth), "success": value.success}


def _array_data(value, depth):
    return {"__type__": "qiskit." + type(value).__name__, "data": encode(value.data, depth)}


def _sparse_pauli_op(value, depth):
    return {
        "__type__": "qiskit.SparsePauliOp",
        "paulis": value.paulis.to_labels(),
        "coeffs": [encode(complex(c), depth) for c in value.coeffs],
    }


def _pub_result(value, depth):
    return {
        "data": encode(value.data, depth),
        "metadata": encode(value.metadata, depth),
    }


def _data_bin(value, depth):
    if hasattr(value, "items"):
        return _dict(dict(value.items()), depth)
    return _dict({name: getattr(value, name) for name in value._FIELDS}, depth)  # before 1.2


def _bit_array(value, depth):
    return {"counts": value.get_counts(), "num_shots": value.num_shots, "num_bits": value.num_bits}


# By the top-level package and the name of a class; subclasses are found too.
_ENCODERS = {
    ("enum", "Enum"): lambda v, depth: encode(v.value, depth),
    ("builtins", "str"): lambda v, depth: str.__str__(v),
    ("builtins", "int"): lambda v, depth: _int(v),
    ("builtins", "float"): lambda v, depth: encode(float(v), depth),
    ("builtins", "complex"): _complex,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("builtins", "dict"): _dict,
    ("builtins", "list"): _items,
    ("builtins", "tuple"): _items,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _set,
    ("datetime", "date"): lambda v, depth: v.isoformat(),  # and datetime
    ("datetime", "time"): lambda v, depth: v.isoformat(),
    ("datetime", "timedelta"): lambda v, depth: v.total_seconds(),
    ("uuid", "UUID"): lambda v, depth: str(v),
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "ndarray"): _ndarray,
    ("qiskit", "QuantumCircuit"): _circuit,
    ("qiskit", "Result"): _qiskit_result,
    ("qiskit", "Statevector"): _array_data,
    ("qiskit", "DensityMatrix"): _array_data,
    ("qiskit", "Operator"): _array_data,
    ("qiskit", "SparsePauliOp"): _sparse_pauli_op,
    ("qiskit", "Pauli"): lambda v, depth: v.to_label(),
    ("qiskit", "PrimitiveResult"): _items,
    ("qiskit", "PubResult"): _pub_result,
    ("qiskit", "DataBin"): _data_bin,
    ("qiskit", "BitArray"): _bit_array,
}
