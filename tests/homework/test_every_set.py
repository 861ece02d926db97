"""Each set through the five commands: a right, an empty and a hanging notebook."""
import csv

import nbformat
import pytest

from homework import release
from homework.__main__ import main

LIMITS = ("--cell-seconds", "10", "--check-seconds", "3")


def handed_in(folder, name, seed):
    """A solution, the student's notebook as it was given out, and a solution whose first function never returns."""
    hanging = release.solution_version(name, seed)
    first = next(cell for cell in hanging.cells if cell.cell_type == "code" and "def " in cell.source and cell.metadata.nbgrader.solution)
    head = first.source[:first.source.index("### BEGIN SOLUTION")]
    first.source = head + "while True:\n        pass\n"
    for student, notebook in (("right", release.solution_version(name, seed)), ("empty", release.student_version(name, seed)), ("hanging", hanging)):
        (folder / student).mkdir(parents=True)
        nbformat.write(notebook, folder / student / "my homework.ipynb")


@pytest.mark.parametrize("name", release.sets())
def test_a_set_goes_all_the_way(name, tmp_path):
    course, folder = ("--course", str(tmp_path / "course")), tmp_path / "downloads"
    main(["release", "--set", name, "--seed", "77", *course])
    handed_in(folder, name, 77)
    main(["collect", "--set", name, "--from", str(folder), *course])
    main(["grade", "--set", name, *LIMITS, *course])
    main(["feedback", "--set", name, *course])
    main(["export", *course])
    with open(tmp_path / "course" / "grades.csv", encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    by_code = sum(cell.metadata.nbgrader.points for cell in release.read_source(name).cells
                  if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"))
    assert {row["max_score"] for row in rows.values()} == {"40.0"}
    assert float(rows["right"]["score"]) == by_code and float(rows["empty"]["score"]) == 0
    assert 0 < float(rows["hanging"]["score"]) < by_code
    for student in rows:
        page = (tmp_path / "course" / "feedback" / student / name / f"{name}.html").read_text(encoding="utf-8")
        assert "HIDDEN TESTS" not in page and ("took too long" in page) == (student == "hanging")
