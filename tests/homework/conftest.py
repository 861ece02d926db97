"""Submissions made from the reference by replacing some of its cells."""
import sys
from functools import lru_cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from homework import grade, release  # noqa: E402


source, student_version, solution_version = map(lru_cache, (release.read_source, release.student_version, release.solution_version))


def cells_of(notebook):
    """(name, code) of every code cell that is not a check."""
    return [(cell.id, cell.source) for cell in notebook.cells
            if cell.cell_type == "code" and not cell.metadata.get("nbgrader", {}).get("grade")]


@pytest.fixture(scope="session")
def marked():
    """marked("ps1", seed, {"ps1-ddim-step": code}) -> {grade_id: points}: the reference with these cells in place of its own.

    `blank=True` starts from what the student gets; `full=True` returns whatever `grade.mark` returns. A code may be a list of
    (old, new) pairs: replacements in the reference's own text, each of which must occur.
    """
    def mark(name, seed=0, changes=None, blank=False, full=False, limits=grade.Limits(cell=10, check=10, total=60)):
        student = student_version(name, seed)
        cells = dict(cells_of(student if blank else solution_version(name, seed)))
        for cell, change in (changes or {}).items():
            if cell not in cells:
                raise KeyError(f"{name} has no cell {cell}")
            if isinstance(change, list):
                text = cells[cell]
                for old, new in change:
                    assert old in text, f"{old!r} does not occur in {cell}"
                    text = text.replace(old, new)
                change = text
            cells[cell] = change
        result = grade.mark(source(name), release.public_cells(student), cells.items(), seed, limits)
        return result if full else {grade_id: cell.points for grade_id, cell in result[0].items()}
    return mark
