"""What the judges share: to take an answer, to compare it with the truth, and to choose the hint."""
from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import numpy as np


def as_number(answer) -> float:
    """The answer as a finite float. Raises ValueError for anything but one real number."""
    if isinstance(answer, np.ndarray) and answer.ndim == 0:
        answer = answer.item()
    if not _is_real(answer) or not np.isfinite(answer):
        raise ValueError(f"answer must be one finite number, not {answer!r}")
    return float(answer)


def as_array(answer, shape) -> np.ndarray:
    """The answer as a float64 array of that shape. Raises ValueError for another shape, for NaN and infinity, and for
    anything but real numbers: no booleans, no complex numbers, no strings."""
    array = _reals(answer)
    if array is None:
        raise ValueError(f"answer must be real numbers in an array of shape {tuple(shape)}, not {answer!r}")
    if array.shape != tuple(shape):
        raise ValueError(f"answer must have shape {tuple(shape)}, not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("answer must be finite; it holds NaN or infinity")
    return array


def as_choice(answer, choices) -> str:
    """The answer as one of the words offered. Raises ValueError for any other."""
    if not isinstance(answer, str) or answer.strip().lower() not in choices:
        raise ValueError(f"answer must be one of {', '.join(map(repr, choices))}, not {answer!r}")
    return answer.strip().lower()


def as_function(answer) -> Callable:
    """The answer as something that can be called. Raises ValueError for anything else."""
    if not callable(answer):
        raise ValueError(f"answer must be a function, not {answer!r}; pass its name without brackets")
    return answer


def near(value, truth, rtol=1e-3, atol=0.0) -> bool:
    """Whether every number is within `atol + rtol |truth|` of the truth."""
    return bool(np.allclose(value, truth, rtol=rtol, atol=atol))


def first_hint(value, mistakes, otherwise, rtol=1e-3, atol=0.0):
    """The hint of the first mistake that gives this value, else `otherwise`.

    mistakes : pairs of a wrong value, or of a function without arguments that computes it only if it is needed, and a hint.
    """
    return next((hint for wrong, hint in mistakes if near(value, wrong() if callable(wrong) else wrong, rtol, atol)), otherwise)


def judged(answer, truth, mistakes, otherwise, rtol=1e-3, atol=0.0):
    """None for the truth, else `first_hint`; where no mistake fits several numbers, it says which are right already."""
    if near(answer, truth, rtol, atol):
        return None
    if np.ndim(truth) and (right := np.flatnonzero(np.isclose(answer, truth, rtol, atol)) + 1).size:
        otherwise = f"Of your {len(truth)} numbers, these are right: number {', '.join(map(str, right))}. {otherwise}"
    return first_hint(answer, mistakes, otherwise, rtol, atol)


def judged_function(function, names, cases, truth, mistakes, otherwise, rtol=1e-6, atol=1e-12, shape=()):
    """None if the reader's function gives the truth in every case, else a hint.

    Parameters
    ----------
    names, cases : the names of the arguments, "r, a"; tuples of arguments.
    truth, mistakes : functions of the same arguments, or their values in all cases; mistakes with their hints.
    otherwise : where to start; it follows the case in which the value is furthest from the truth.
    shape : that of one value.
    """
    cases = list(cases)
    values, complaint = values_of(function, names, cases, shape)
    if complaint:
        return complaint

    def over(formula):
        return np.array([formula(*case) for case in cases] if callable(formula) else formula)

    truth = over(truth)
    if near(values, truth, rtol, atol):
        return None
    worst = np.abs(values - truth).reshape(len(cases), -1).max(1).argmax()
    otherwise = f"The value is wrong, for example at {_place(names, cases[worst])}. {otherwise}"
    return first_hint(values, ((over(wrong), hint) for wrong, hint in mistakes), otherwise, rtol, atol)


def values_of(function, names, cases, shape=()):
    """The values (len(cases), *shape) of the reader's function and None, or None and what is wrong with a value's form.

    A single number may come as an array with one entry. Raises ValueError for an answer that is no function.
    """
    def form(shape):
        return f"an array of shape {shape}" if shape else "one real number"

    function, values = as_function(function), []
    for case in cases:
        value, place = function(*case), _place(names, case)
        if value is None:
            return None, f"Your function returns nothing at {place}: does it end with return?"
        array = _reals(value)
        if array is None:
            return None, f"Your function must return {form(shape)}; at {place} it returns {value!r}."
        if array.shape != shape and not array.size == np.prod(shape) == 1:
            return None, f"Your function must return {form(shape)}; at {place} it returns {form(array.shape)}."
        if not np.isfinite(array).all():
            return None, f"Your function returns NaN or infinity at {place}."
        values.append(array.reshape(shape))
    return np.array(values), None


def drawn(seed, *ranges, n=5):
    """n cases: tuples of floats, each uniform in its range."""
    rng = np.random.default_rng(seed)
    return [tuple(float(rng.uniform(low, high)) for low, high in ranges) for _ in range(n)]


def _place(names, case):
    return ", ".join(f"{name} = {value:.4g}" for name, value in zip(names.split(", "), case) if _is_real(value))


def _is_real(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _reals(value):
    # A float64 array, or None for anything but real numbers: NumPy alone would take "2", True and 2 + 0j, too.
    try:
        array = np.asarray(value, dtype=object)
    except ValueError:  # rows of unequal length
        return None
    flat = [entry.item() if getattr(entry, "ndim", None) == 0 else entry for entry in array.ravel()]
    return np.array(flat, float).reshape(array.shape) if all(map(_is_real, flat)) else None
