"""Messages between the grader and a submission's process: JSON with arrays, and nothing that could run code."""
from __future__ import annotations

import base64
import json
import math
import struct
from dataclasses import dataclass

import numpy as np

LARGEST = 64 * 2**20  # bytes in one message
LINE = 200  # characters of an error that go back
KINDS = "biufc"  # the NumPy kinds that cross: truth values, integers, real and complex numbers


@dataclass(frozen=True)
class Lent:
    """In a message of the grader's: a function that stays there and can be asked under this number."""

    number: int


class NotData(TypeError):
    """A value that is neither a number, a text, an array nor a collection of these, and no function."""


def encode(value, handle):
    """The value as JSON. `handle(function)` returns the number under which the other side may call a function."""
    if value is ...:
        return {"ellipsis": True}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return {"int": str(value)} if isinstance(value, int) else {"float": value.hex()}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [encode(part, handle) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, handle), encode(part, handle)] for key, part in value.items()]}
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind not in KINDS:
            raise NotData(f"an array of dtype {array.dtype}")
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"array": data, "dtype": array.dtype.str, "shape": list(array.shape)}
    if callable(value):
        return {"function": handle(value)}
    raise NotData(f"an object of type {type(value).__name__}")


def decode(data, caller):
    """The value of what `encode` made. `caller(number)` returns a function that calls the other side's."""
    if not isinstance(data, dict):
        return data
    if "ellipsis" in data:
        return ...
    if "int" in data:
        return int(data["int"])
    if "float" in data:
        return float.fromhex(data["float"])
    if "list" in data or "tuple" in data:
        parts = [decode(part, caller) for part in data.get("list", data.get("tuple"))]
        return parts if "list" in data else tuple(parts)
    if "dict" in data:
        return {decode(key, caller): decode(part, caller) for key, part in data["dict"]}
    if "function" in data:
        return caller(int(data["function"]))
    dtype = np.dtype(data["dtype"])
    raw, shape = base64.b64decode(data["array"]), [int(size) for size in data["shape"]]
    if dtype.kind not in KINDS or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("a message holds an array that its header does not describe")
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def describe(error):
    """One line on an error, of a length that cannot fill a page."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= LINE else text[:LINE] + " ..."


def write(stream, message):
    """Write one message. Raises ValueError if it is larger than 64 MiB."""
    raw = json.dumps(message).encode()
    if len(raw) > LARGEST:
        raise ValueError(f"the answer takes {len(raw) >> 20} MiB; at most {LARGEST >> 20} MiB can be handed over")
    stream.write(struct.pack(">I", len(raw)) + raw)
    stream.flush()


def read(stream):
    """The next message, or None at the end. Raises ValueError for what is no message."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack(">I", header)
    if size > LARGEST:
        raise ValueError("a message is too large")
    raw = stream.read(size)
    return json.loads(raw) if len(raw) == size else None
