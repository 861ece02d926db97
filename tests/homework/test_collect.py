"""Whose file is whose, and what a damaged notebook becomes."""
import json
import zipfile

import nbformat
import pytest

from homework import collect, release

NAMES = {
    "ann/ps1.ipynb": "ann", "ann/ps1/ps1.ipynb": "ann", "ps1/ann.ipynb": "ann", "ps1/ann/final.ipynb": "ann",
    "Ann Lee_123_assignsubmission_file/x.ipynb": "Ann-Lee", "leeann_123_456_ps1.ipynb": "leeann", "leeann_LATE_123_456_ps1-2.ipynb": "leeann",
    "ann_lee_ps1.ipynb": "ann_lee", "ps1_ann.ipynb": "ann", "ann.ipynb": "ann", "ann-PS1 (2).ipynb": "ann", "ps1.ipynb": "ps1",
    "\u00c5sa/ps1.ipynb": "\u00c5sa",
}


@pytest.mark.parametrize("file", NAMES)
def test_owner(tmp_path, file):
    assert collect.owner(tmp_path / file, tmp_path, "ps1") == NAMES[file]


def test_a_folder_around_all_is_passed_over_and_a_single_student_is_not(tmp_path):
    for file in ("wrapped/submissions/ann/a.ipynb", "wrapped/submissions/bob/b.ipynb", "flat/all/ann_ps1.ipynb", "flat/all/bob_ps1.ipynb",
                 "single/ann/a.ipynb", "single/.DS_Store"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    assert list(collect.gather(tmp_path / "wrapped", "ps1")) == ["ann", "bob"]
    assert list(collect.gather(tmp_path / "flat", "ps1")) == ["ann", "bob"]
    assert list(collect.gather(tmp_path / "single", "ps1")) == ["ann"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no files"):
        collect.gather(tmp_path / "empty", "ps1")


def test_a_zip_cannot_write_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped:
        zipped.writestr("../../evil_ps1.ipynb", "{}")
        zipped.writestr("ann/ps1.ipynb", "{}")
    folder = collect.unpack(tmp_path / "all.zip", tmp_path / "inside" / "it")
    assert sorted(path.name for path in folder.rglob("*.ipynb")) == ["evil_ps1.ipynb", "ps1.ipynb"]
    assert not list(tmp_path.glob("*.ipynb")) and not list((tmp_path / "inside").glob("*.ipynb"))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{"source": 1}]}', "[" * 10**5, "\x00"])
def test_what_cannot_be_read_says_so(tmp_path, text):
    (tmp_path / "x.ipynb").write_text(text)
    with pytest.raises(ValueError, match="cannot be read as a notebook"):
        collect.cells_in(tmp_path / "x.ipynb")
    notebook, notes = collect.read_submission([tmp_path / "x.ipynb"], release.student_version("ps1", 0))
    assert "x.ipynb: it cannot be read" in notes[0]
    assert all(cell.source == "# This cell was missing." for cell in notebook.cells
               if cell.cell_type == "code" and cell.metadata.nbgrader.solution)


def test_a_notebook_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": []}))
    monkeypatch.setattr(collect, "LARGEST", 5)
    with pytest.raises(ValueError, match="larger"):
        collect.cells_in(tmp_path / "x.ipynb")


def test_rebuilding_keeps_the_students_cells_and_nothing_else():
    released, answered = release.student_version("ps1", 0), release.student_version("ps1", 0)
    for cell in answered.cells:
        cell.source = f"changed {cell.id}"
    answered.cells.insert(2, nbformat.v4.new_code_cell("mine = 1"))
    cells = [(cell.cell_type, cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source) for cell in answered.cells]
    notebook, notes = collect.rebuild(released, [*cells, cells[4]])
    by_id = {cell.id: cell for cell in notebook.cells}
    for cell in released.cells:
        solution = cell.metadata.get("nbgrader", {}).get("solution")
        assert by_id[cell.id].source == (f"changed {cell.id}" if solution else cell.source)
    assert notebook.cells[2].source == "mine = 1" and len(notebook.cells) == len(released.cells) + 1
