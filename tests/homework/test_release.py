"""From a source to the student's notebook: nothing secret in it, everything needed in it, numbers of the course's own."""
import ast
import re

import nbformat
import pytest

from homework import release
from homework.grade import HIDDEN

SETS = release.sets()


def graded(notebook):
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def test_there_are_five():
    assert SETS == ["ps1", "ps2", "ps3", "ps4", "ps5"]


@pytest.mark.parametrize("name", SETS)
def test_a_source_is_complete(name):
    source = release.read_source(name)
    nbformat.validate(source)
    ids = [cell.metadata.nbgrader.grade_id for cell in source.cells if "nbgrader" in cell.metadata]
    assert len(set(ids)) == len(ids) and all(grade_id.startswith(f"{name}-") for grade_id in ids)
    assert sum(cell.metadata.nbgrader.points for cell in graded(source)) == 40
    text = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    stated = [int(points) for points in re.findall(r"^## Problem \d\..*\((\d+) points", text, re.MULTILINE)]
    assert sum(stated) == 40 and 4 <= len(stated) <= 6
    minutes = [int(number) for number in re.findall(r"^## Problem \d\..*?(\d+) minutes", text, re.MULTILINE)]
    assert len(minutes) == len(stated) and 60 <= sum(minutes) <= 120 and f"**Time** {sum(minutes)} minutes" in text
    for word in ("You will", "You need", "Points", "proof", "prediction", "Open"):
        assert word in text
    for cell in graded(source):
        if cell.cell_type == "code":
            assert HIDDEN.search(cell.source), f"{cell.id} checks nothing"
        else:
            assert "Mark scheme" in cell.source, f"{cell.id} has no mark scheme"


@pytest.mark.parametrize("name", SETS)
def test_a_student_gets_no_answer(name):
    student = release.student_version(name, 3)
    text = nbformat.writes(student)
    for secret in ("SOLUTION", "HIDDEN", "Mark scheme", "award(", "private"):
        assert secret not in text
    for cell in student.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("solution"):
            assert "YOUR CODE HERE" in cell.source or "YOUR ANSWER HERE" in cell.source
        else:
            assert cell.metadata.get("editable") is False or not settings
    assert [cell.id for cell in graded(student)] == [cell.id for cell in graded(release.read_source(name))]


@pytest.mark.parametrize("name", SETS)
def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(name):
    first, again, other = (release.public_cells(release.student_version(name, seed)) for seed in (1, 1, 2))
    assert first and first == again
    assert all(mine != theirs for mine, theirs in zip(first, other))


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="there are ps1, ps2"):
        release.read_source("ps9")
