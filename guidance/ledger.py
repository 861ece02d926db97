"""Claims: state a relation between two numbers, check it, show the verdict, and record it.

A chapter calls `claim` after each theorem and `counterexample` where it breaks an assumption on purpose. Each call
checks the relation, raises if it does not come out as stated, and otherwise displays a verdict. The record travels
inside the cell's output under the mime type `MIME`, from where the build collects it into the *Ledger* page.

What the tolerance means. It is absolute, in the units of the numbers.

| relation | holds when |
|---|---|
| `==` | abs(left - right) <= tolerance |
| `<=` | left <= right + tolerance |
| `>=` | left >= right - tolerance |
| `<`  | left < right - tolerance: the tolerance is a margin that must be cleared |
| `>`  | left > right + tolerance: likewise |

Arrays are broadcast against each other and every entry must satisfy the relation. The entry that comes closest to
failing, or fails by most, is the one that is recorded.
"""
from __future__ import annotations

import html
import math
import re
import sys
from dataclasses import asdict, dataclass

import numpy as np

MIME = "application/vnd.guidance.claim+json"

# How far an entry is from failing: it holds when this is at most (for a strict relation: below) zero.
_EXCESS = {
    "==": lambda left, right, tolerance: np.abs(left - right) - tolerance,
    "<=": lambda left, right, tolerance: left - right - tolerance,
    ">=": lambda left, right, tolerance: right - left - tolerance,
    "<": lambda left, right, tolerance: left - right + tolerance,
    ">": lambda left, right, tolerance: right - left + tolerance,
}
_SIGN = {"==": "=", "<=": "≤", ">=": "≥", "<": "<", ">": ">"}
_OPPOSITE = {"==": "≠", "<=": ">", ">=": "<", "<": "≥", ">": "≤"}


@dataclass(frozen=True)
class Record:
    """One checked relation. `left` and `right` are floats, the worst of `entries` compared pairs."""

    kind: str  # "claim" or "counterexample"
    name: str
    statement: str
    source: str
    instance: str
    left: float
    relation: str
    right: float
    tolerance: float
    holds: bool
    entries: int = 1
    of: str | None = None  # a counterexample names the claim that it breaks
    breaks: str | None = None  # a claim may name its counterexample

    @property
    def passed(self):
        """Whether it came out as stated: a claim holds, a counterexample does not."""
        return self.holds == (self.kind == "claim")

    @property
    def numbers(self):
        """Both numbers with the sign that is true of them, as text: `0.25 ≤ 0.5`."""
        sign = (_SIGN if self.holds else _OPPOSITE)[self.relation]
        # Two numbers that only the tolerance makes equal or ordered are shown as equal as the tolerance sees them.
        by_tolerance = self.holds and not {"==": False, "<=": self.left < self.right, ">=": self.left > self.right}.get(self.relation, True)
        digits = next(d for d in (6, 10, 17) if d == 17 or by_tolerance or f"{self.left:.{d}g}" != f"{self.right:.{d}g}")
        return f"{self.left:.{digits}g} {sign} {self.right:.{digits}g}"

    @property
    def verdict(self):
        """The verdict in words."""
        if self.kind == "claim":
            return "✓ holds" if self.holds else "✗ fails"
        return "✗ still holds" if self.holds else "✓ fails, as it should"

    def _comparison(self):
        worst = f" (worst of {self.entries})" if self.entries > 1 else ""
        gap = f", difference {abs(self.left - self.right):.2g}" if self.relation == "==" else ""
        return f"{self.numbers}{worst}{gap}, tolerance {self.tolerance:.2g}"

    def __repr__(self):
        what = f"Claim {self.name}" if self.kind == "claim" else f"Counterexample {self.name} to {self.of}"
        return f"{what}: {self.verdict}. {self.statement} [{self._comparison()}; {self.instance}]"

    def _repr_html_(self):
        def text(value):
            return html.escape(value, quote=False)

        what = "Claim" if self.kind == "claim" else f"Without an assumption of <code>{text(self.of)}</code>"
        source = f"<br>Source: {math_to_html(self.source)}" if self.source else ""
        return (
            f'<div class="claim claim-{self.kind}" id="claim-{self.name}" role="note" aria-label="{self.kind}'
            f' {self.name}" style="border-left: 0.3em solid {"#009E73" if self.kind == "claim" else "#D55E00"};'
            f' padding: 0.3em 0.8em;">'
            f'<strong>{what}: {text(self.verdict)}</strong> <code>{text(self.name)}</code><br>'
            f"{math_to_html(self.statement)}<br>{text(self._comparison())}<br>"
            f"<small>Instance: {math_to_html(self.instance)}{source}</small></div>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: asdict(self)}


def math_to_html(text):
    """Escaped HTML of a line of text in which `$...$` is mathematics (MathJax typesets the result)."""
    escaped = html.escape(text, quote=False)
    return re.sub(r"\$([^$]+)\$", r'<span class="tex2jax_process mathjax_process">\\(\1\\)</span>', escaped)


def _worst(left, relation, right, tolerance):
    """The pair of numbers that is furthest on the failing side, how many there were, and whether all hold."""
    if relation not in _EXCESS:
        raise ValueError(f"relation must be one of {' '.join(_EXCESS)}, got {relation!r}")
    if not (np.isscalar(tolerance) and 0 <= float(tolerance) < math.inf):
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance!r}")
    try:
        left, right = np.broadcast_arrays(np.asarray(left, dtype=float), np.asarray(right, dtype=float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"left and right must be real numbers or arrays that broadcast: {error}") from error
    if left.size == 0:
        raise ValueError("left and right hold no numbers: there is nothing to check")
    left, right = left.ravel(), right.ravel()
    if np.isnan(left).any() or np.isnan(right).any():
        raise AssertionError("left or right is NaN (not a number), for which no relation holds")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("left and right must be finite: a claim about an infinite number cannot be checked")
    excess = _EXCESS[relation](left, right, float(tolerance))
    worst = int(np.argmax(excess))
    holds = excess[worst] < 0 if relation in "<>" else excess[worst] <= 0
    return float(left[worst]), float(right[worst]), left.size, bool(holds)


def check(kind, name, statement, source, instance, left, relation, right, tolerance=0.0, of=None, breaks=None):
    """The `Record` of one checked relation; see `claim` and `counterexample`, which also display it.

    Raises
    ------
    ValueError if a text is missing, the name is not lower-case words joined by hyphens, the relation or tolerance is
        unknown or negative, or the numbers are missing, infinite or do not broadcast.
    AssertionError if the relation does not come out as stated, or a number is NaN.
    """
    texts = {"name": name, "statement": statement, "instance": instance}
    texts |= {"source": source} if kind == "claim" else {"of": of}
    for argument, text in texts.items():
        if not (isinstance(text, str) and text.strip()):
            raise ValueError(f"{argument} must be a text that is not empty, got {text!r}")
    for argument, text in {"name": name, "of": of, "breaks": breaks}.items():
        if text is not None and not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text):
            raise ValueError(f"{argument} must be lower-case words joined by hyphens, as in 'w1-pathwise', got {text!r}")
    try:
        left, right, entries, holds = _worst(left, relation, right, tolerance)
    except AssertionError as error:
        raise AssertionError(f"{kind} {name!r}: {error}") from None
    record = Record(kind, name, statement, source, instance, left, relation, right, float(tolerance), holds, entries,
                    of, breaks)
    if not record.passed:
        expected = "should hold and does not" if kind == "claim" else "should fail and holds"
        raise AssertionError(f"{kind} {name!r}: left {relation} right {expected}.\n  {statement}\n"
                             f"  left = {left!r}, right = {right!r}, tolerance = {tolerance!r}"
                             f" (worst of {entries})\n  instance: {instance}")
    return record


def claim(name, *, statement, source, instance, left, relation, right, tolerance=0.0, breaks=None):
    """Check a claim, and display and record the verdict.

    Parameters
    ----------
    name : str, lower-case words joined by hyphens, unique in the book: `"w1-pathwise"`.
    statement : str, the claim in words; `$...$` is mathematics.
    source : str, where it comes from: "Wu et al. 2024, in substance", or "ours".
    instance : str, on what it was computed: law, process, T, grid, number of samples, seed.
    left, right : numbers or real arrays that broadcast; every entry is compared and the worst recorded.
    relation : "==", "<=", ">=", "<" or ">".
    tolerance : float >= 0, absolute; the module's table says what it means for each relation.
    breaks : str or None, the name of the `counterexample` that breaks an assumption of this claim.

    Raises
    ------
    AssertionError if the relation fails for any entry, or a number is NaN.
    ValueError if an argument is missing or malformed; the message names it.
    """
    _show(check("claim", name, statement, source, instance, left, relation, right, tolerance, breaks=breaks))


def counterexample(name, *, of, statement, instance, left, relation, right, tolerance=0.0, source=""):
    """Check that a relation *fails* once an assumption is dropped, and display and record that.

    Parameters are those of `claim`; `of` is the name of the claim whose relation is broken. Some entry must violate
    the relation by more than the tolerance allows.

    Raises
    ------
    AssertionError if the relation holds for every entry after all, or a number is NaN.
    ValueError if an argument is missing or malformed; the message names it.
    """
    _show(check("counterexample", name, statement, source, instance, left, relation, right, tolerance, of=of))


def _show(record):
    """Display in a notebook, print elsewhere."""
    if "IPython" in sys.modules:
        from IPython.display import display

        display(record)
    else:
        print(record)
