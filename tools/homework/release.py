"""From a source to the notebooks: the student's with this course's numbers in it, and the solution.

A source is a text file in jupytext's percent format with nbgrader's cell metadata. Two tags are ours: a `private` cell
(helpers, oracles, the drawing of instances) stays with the grader, and an `instance` cell, run after the private ones with
`rng` drawn from the course seed, is replaced by the values it defines.
"""
from __future__ import annotations

import ast
import copy
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbgrader.preprocessors import CheckCellMetadata, ClearHiddenTests, ClearOutput, ClearSolutions, ComputeChecksums, LockCells

from homework.grade import generator, namespace

SOURCES = Path(__file__).resolve().parents[2] / "book" / "homework" / "source"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
PRACTICE_SEED = 0  # of the version that the book shows; a course has its own


def sets():
    """The names of the problem sets."""
    return sorted(path.stem for path in SOURCES.glob("ps*.py"))


def read_source(name):
    """The problem set as a notebook, with everything in it. Raises ValueError for a name that there is not."""
    if name not in sets():
        raise ValueError(f"set {name!r} does not exist; there are {', '.join(sets())}")
    notebook = jupytext.read(SOURCES / f"{name}.py", fmt="py:percent")
    notebook.metadata = nbformat.from_dict({**KERNEL, "homework": name})
    for index, cell in enumerate(notebook.cells):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id", f"{name}-cell-{index}")[:64]
    return notebook


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def literal(value):
    """Python code for a value of an instance."""
    if isinstance(value, np.ndarray):
        return f"np.array({np.array2string(value, separator=', ', threshold=10**6, floatmode='unique')})"
    if isinstance(value, np.generic):
        return repr(value.item())
    return repr(value)


def fill_in(notebook, seed):
    """A copy without private cells, with the values of this seed in the instance cells."""
    names, filled = namespace(notebook, []), copy.deepcopy(notebook)
    filled.cells = [cell for cell in filled.cells if not has_tag(cell, "private")]
    for cell in filled.cells:
        if has_tag(cell, "instance"):
            local = names | {"rng": generator(seed, cell.id + " as released")}
            exec(compile(cell.source, cell.id, "exec"), local)
            assigned = [node.id for node in ast.walk(ast.parse(cell.source))
                        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
            comments = [line for line in cell.source.splitlines() if line.startswith("#")]
            cell.source = "\n".join(comments + [f"{name} = {literal(local[name])}" for name in dict.fromkeys(assigned)])
    return filled


def convert(notebook, *steps):
    """The notebook after nbgrader's preprocessors."""
    resources = {"nbgrader": {}}
    for step in steps:
        notebook, resources = step().preprocess(notebook, resources)
    return notebook


def student_version(name, seed):
    """What a student gets: no solutions with their mark schemes, no hidden tests, and cells that must stay locked."""
    return convert(fill_in(read_source(name), seed), LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ComputeChecksums,
                   ClearHiddenTests, ComputeChecksums, CheckCellMetadata)


def solution_version(name, seed):
    """What a lecturer reads: solutions and mark schemes, the numbers of this course, no hidden tests."""
    return convert(fill_in(read_source(name), seed), ClearOutput, ClearHiddenTests)


def without_checks(name, seed):
    """What nbgrader keeps in its gradebook: solutions, but no hidden test that its feedback could show to a student."""
    return convert(fill_in(read_source(name), seed), ClearHiddenTests)


def public_cells(notebook):
    """The code of a released notebook's instance cells."""
    return [cell.source for cell in notebook.cells if has_tag(cell, "instance")]
