"""Self-checks of the exercises: `check("7.2", answer)` says, on the reader's own machine, whether an answer is right.

The number is that of the exercise in the book: chapter 7, exercise 2. Each part of the book has a module here with one
function an exercise. It computes the right answer when it is called, from the exact world or by quadrature, so that no
number is kept in the code, and it returns None for a right answer and a hint for a wrong one. What these functions
share is in `judging` and `laws`.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

PARTS = ("part1", "part2", "part3", "part4", "part5")
EXERCISES: dict[str, Exercise] = {}


@dataclass(frozen=True)
class Exercise:
    """An exercise with a check: what an answer is, and the function that judges one."""

    number: str
    expects: str
    judge: Callable[[object], str | None]


def exercise(number: str, expects: str) -> Callable:
    """Registers the decorated function as the judge of an exercise.

    Parameters
    ----------
    number : "chapter.exercise", as the book prints it.
    expects : what an answer is, in words that complete "put ... in the place of the three dots".
    """
    def register(judge):
        if number in EXERCISES:
            raise ValueError(f"number {number!r} has two checks; each exercise has one")
        EXERCISES[number] = Exercise(number, expects, judge)
        return judge
    return register


def find(number: str) -> Exercise:
    """The exercise of that number. Raises ValueError, with the numbers there are, for any other."""
    for part in PARTS:
        import_module(f"{__name__}.{part}")
    if not isinstance(number, str) or number not in EXERCISES:
        known = ", ".join(sorted(EXERCISES, key=lambda name: [int(part) for part in name.split(".")]))
        raise ValueError(f"number {number!r} has no check; these exercises have one: {known}")
    return EXERCISES[number]


def check(number: str, answer) -> None:
    """Print whether an answer is right, and a hint if it is not.

    Parameters
    ----------
    number : the exercise as the book prints it, for example "7.2".
    answer : what the exercise asks for: a number, an array, one of the words offered, or a function. `...` stands for
        an answer that is not given yet.

    Raises
    ------
    ValueError : for a number without a check, and for an answer of another kind than the one asked for.
    """
    asked = find(number)
    if answer is ...:
        print(f"{number}: no answer yet. Put {asked.expects} in the place of the three dots and run the cell again.")
        return
    hint = asked.judge(answer)
    print(f"{number}: right." if hint is None else f"{number}: not yet. {hint}")
