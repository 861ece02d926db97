"""Whose file is whose, and what a damaged notebook becomes."""
import json
import zipfile

import nbformat
import pytest

from homework import collect, release

NAMES = {
    "ann/ps1.ipynb": "ann", "ann/ps1/ps1.ipynb": "ann", "ps1/ann.ipynb": "ann", "ps1/ann/final.ipynb": "ann",
    "Ann Lee_123_assignsubmission_file/x.ipynb": "Ann-Lee", "Ann Lee_123_assignsubmission_file_ps1.ipynb": "Ann-Lee",
    "leeann_123_456_ps1.ipynb": "leeann", "leeann_LATE_123_456_ps1-2.ipynb": "leeann",
    "ann_lee_ps1.ipynb": "ann_lee", "ps1_ann.ipynb": "ann", "ann.ipynb": "ann", "ann-PS1 (2).ipynb": "ann", "ps1.ipynb": "ps1",
    "\u00c5sa/ps1.ipynb": "\u00c5sa",
}


@pytest.mark.parametrize("file", NAMES)
def test_owner(tmp_path, file):
    assert collect.owner(tmp_path / file, tmp_path, "ps1")[0] == NAMES[file]


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


def test_namesakes_stay_two_people(tmp_path):
    for file in ("Ada L_111_assignsubmission_file/a.ipynb", "Ada L_222_assignsubmission_file/a.ipynb", "doejohn_12_34_ps1.ipynb", "doejohn_13_35_ps1.ipynb",
                 "ann lee/a.ipynb", "ann-lee/a.ipynb"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    found = collect.gather(tmp_path, "ps1")
    assert list(found) == ["Ada-L-111", "Ada-L-222", "ann-lee-1", "ann-lee-2", "doejohn-12", "doejohn-13"]
    assert all(len(paths) == 1 for paths in found.values())


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("{}")
    (tmp_path / "in" / "ann").mkdir(parents=True)
    (tmp_path / "in" / "ann" / "ps1.ipynb").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ValueError, match="holds no files"):
        collect.gather(tmp_path / "in", "ps1")


def test_the_newest_of_a_zip_is_the_newest_by_its_own_clock(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("ann/new.ipynb", (2026, 11, 20, 12, 0, 0)), "{}")
        zipped.writestr(zipfile.ZipInfo("ann/old.ipynb", (2026, 11, 1, 12, 0, 0)), "{}")
    found = collect.gather(collect.unpack(tmp_path / "all.zip", tmp_path / "out"), "ps1")
    assert [path.name for path in found["ann"]] == ["new.ipynb", "old.ipynb"]


@pytest.fixture(scope="module")
def released():
    return release.student_version("ps1", 0)


def as_cells(notebook):
    return [(cell.cell_type, cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source, {}) for cell in notebook.cells]


def answered(released):
    return [(kind, name, f"changed {name}", {}) for kind, name, _, _ in as_cells(released)]


def solutions(notebook):
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]


def test_rebuilding_keeps_what_the_student_wrote_and_what_was_released(released):
    cells = answered(released)
    cells.insert(2, ("code", None, "mine = 1", {}))
    notebook, notes = collect.rebuild(released, cells)
    assert [cell.source for cell in solutions(notebook)] == [f"changed {cell.id}" for cell in solutions(released)]
    kept = {cell.id: cell.source for cell in notebook.cells}
    for cell in released.cells:
        if not cell.metadata.get("nbgrader", {}).get("solution"):
            assert kept[cell.id] == cell.source
    extra = [cell.source for cell in notebook.cells if cell.id.startswith("added")]
    assert extra == ["changed ps1-imports", "mine = 1", "changed ps1-pairs"], "changed cells of code run too, and checks are not theirs to change"
    assert any("ps1-imports was changed" in note for note in notes)


def test_reversed_cells_stand_in_order_again(released):
    notebook, _ = collect.rebuild(released, answered(released)[::-1])
    assert [cell.id for cell in notebook.cells if not cell.id.startswith("added")] == [cell.id for cell in released.cells]


def test_a_cell_that_was_split_is_all_there(released):
    cells = [part for cell in as_cells(released) for part in (
        [(*cell[:2], "first", {}), (*cell[:2], "second", {})] if cell[1] in ("ps1-ddim-step", "ps1-proof") else [cell])]
    notebook, notes = collect.rebuild(released, cells)
    sources = {cell.id: cell.source for cell in notebook.cells}
    assert sources["ps1-proof"] == "first\n\nsecond"
    assert sources["ps1-ddim-step"] == "first" and sources["added-ps1-ddim-step-0"] == "second"
    assert any("ps1-ddim-step was there more than once" in note for note in notes)


def test_words_in_a_cell_of_their_own_are_read_by_somebody(released):
    cells = as_cells(released)
    assert [cell.source for cell in solutions(collect.rebuild(released, cells)[0])] == [cell.source for cell in solutions(released)]
    notebook, _ = collect.rebuild(released, [*cells, ("markdown", None, "My proof.", {})])
    for cell, before in zip(solutions(notebook), solutions(released)):
        assert (cell.source != before.source) == (cell.cell_type == "markdown")


def test_words_are_no_markup_and_formulas_stay(released):
    evil = 'a <script>x()</script> <img src=x onerror=y> </td> <!-- $a<b$ and $a < 1$, 3<4'
    notebook, _ = collect.rebuild(released, [("markdown", "ps1-proof", evil, {}), ("markdown", None, evil, {}), ("raw", None, evil, {})])
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("a"):
            assert cell.source == "a < script>x()< /script> < img src=x onerror=y> < /td> < !-- $a< b$ and $a < 1$, 3<4"


def test_photographs_come_along_and_nothing_else(tmp_path, released):
    files = {"a.png": {"image/png": "aGVsbG8=\n"}, "b.svg": {"image/svg+xml": "PHN2Zz4="}, 'c" onload="x.png': {"image/png": "aGVsbG8="},
             "d.png": {"image/png": '" onload="x()'}}
    cell = {"cell_type": "markdown", "metadata": {"nbgrader": {"grade_id": "ps1-proof"}}, "source": "![](attachment:a.png)", "attachments": files}
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": [cell]}))
    notebook, _ = collect.read_submission([tmp_path / "x.ipynb"], released)
    (proof,) = [cell for cell in notebook.cells if cell.id == "ps1-proof"]
    assert proof.attachments == {"a.png": {"image/png": "aGVsbG8=\n"}}


def test_half_a_character_is_no_reason_to_stop(tmp_path, released):
    (tmp_path / "x.ipynb").write_text('{"cells": [{"cell_type": "code", "metadata": {}, "source": "x = \'\\ud800\'"}]}')
    notebook, _ = collect.read_submission([tmp_path / "x.ipynb"], released)
    nbformat.writes(notebook).encode("utf-8")


def test_the_file_of_this_set_is_taken(tmp_path, released):
    nbformat.write(release.student_version("ps2", 0), tmp_path / "newer.ipynb")
    nbformat.write(release.student_version("ps1", 0), tmp_path / "older.ipynb")
    _, notes = collect.read_submission([tmp_path / "newer.ipynb", tmp_path / "older.ipynb"], released)
    assert notes == ["older.ipynb was taken, newer.ipynb was not"]


def test_a_zip_inside_is_opened(tmp_path, released):
    nbformat.write(released, tmp_path / "a.ipynb")
    with zipfile.ZipFile(tmp_path / "ps1.zip", "w") as zipped:
        zipped.write(tmp_path / "a.ipynb", "ps1/ps1.ipynb")
    (path,) = collect.opened([tmp_path / "ps1.zip"], tmp_path / "out")
    assert path.name == "ps1.ipynb" and path.read_bytes() == (tmp_path / "a.ipynb").read_bytes()
