"""What students handed in, whatever its names and its state, in the one form that the grader and nbgrader read.

Each notebook is rebuilt on the one that was released: the student's own cells are taken, locked cells come from the
release, cells that are gone are put back empty. A file that cannot be read becomes an empty notebook that says so.
"""
from __future__ import annotations

import copy
import json
import re
import zipfile
from pathlib import Path

import nbformat

LARGEST = 20 * 2**20  # bytes of a notebook that is read
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db")


def unpack(archive, folder):
    """Extract the files of a zip that could be notebooks, and no file larger than 20 MiB."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            if not member.is_dir() and member.file_size <= LARGEST:
                zipped.extract(member, folder)
    return Path(folder)


def owner(path, folder, name):
    """Whose file this is: the folder it lies in, or for a file that lies in none, what its name holds beside the set's.

    Understood are a folder a student, Moodle's "First Last_123_assignsubmission_file", Canvas' "lastfirst_123_456_name.ipynb",
    "student_ps1.ipynb", "ps1_student.ipynb" and "student.ipynb".
    """
    parts = [part for part in path.relative_to(folder).parts[:-1] if part != name]
    if parts:
        found = re.split(r"_\d+_assignsubmission", parts[0])[0]
    else:
        stem = path.name.split(".")[0]
        canvas = re.match(r"(.+?)(?:_LATE)?_\d+_\d+_", path.name)
        around = re.sub(rf"^{name}[ _-]+|[ _-]+{name}\b.*$", "", stem, flags=re.IGNORECASE)
        found = canvas[1] if canvas else around
    return re.sub(r"[^\w-]+", "-", found).strip("-") or "nobody"


def unwrap(folder):
    """The folder itself, or the only one in it where that holds more than one person's files."""
    inside = [path for path in folder.iterdir() if path.name not in IGNORED]
    if len(inside) == 1 and inside[0].is_dir():
        within = list(inside[0].iterdir())
        if any(path.is_dir() for path in within) or sum(path.suffix == ".ipynb" for path in within) > 1:
            return unwrap(inside[0])
    return folder


def gather(folder, name):
    """{student: files, notebooks and the newest first}. Raises ValueError where there is no file."""
    folder = unwrap(Path(folder))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not set(path.parts) & set(IGNORED)]
    if not files:
        raise ValueError(f"from={str(folder)!r} holds no files; give the folder that the submissions were downloaded to")
    students = {}
    for path in files:
        students.setdefault(owner(path, folder, name), []).append(path)
    return {student: sorted(paths, key=lambda path: (path.suffix == ".ipynb", path.stat().st_mtime), reverse=True)
            for student, paths in sorted(students.items())}


def cells_in(path):
    """[(kind, grade_id or None, source)] of a notebook file. Raises ValueError for what is none."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        cells = data["cells"] if "cells" in data else [cell for sheet in data["worksheets"] for cell in sheet["cells"]]
        found = []
        for cell in cells:
            source = cell.get("source", cell.get("input", ""))
            source = source if isinstance(source, str) else "".join(source)
            settings = cell.get("metadata", {}).get("nbgrader", {})
            grade_id = settings.get("grade_id") if isinstance(settings, dict) else None
            found.append((str(cell["cell_type"]), grade_id if isinstance(grade_id, str) else None, source))
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it cannot be read as a notebook ({type(error).__name__})") from None


def rebuild(released, cells):
    """The released notebook with the student's cells in it.

    Returns the notebook and notes on what was mended. Cells that the student added stay where they were put.
    """
    known = {cell.metadata.nbgrader.grade_id: cell for cell in released.cells if "nbgrader" in cell.metadata}
    order, built, notes, used = list(known), [], [], set()
    for kind, grade_id, source in cells:
        if grade_id in known and grade_id not in used:
            cell = copy.deepcopy(known[grade_id])
            if cell.metadata.nbgrader.solution:
                cell.source = source
            built.append(cell)
            used.add(grade_id)
        elif grade_id not in known and source.strip():
            added = (nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell)(source, id=f"added-{len(built)}")
            built.append(added)
        elif source.strip() != known[grade_id].source.strip():
            notes.append(f"the cell {grade_id} was there more than once; the first one counts")
    for index, grade_id in enumerate(order):
        if grade_id not in used:
            cell = copy.deepcopy(known[grade_id])
            if cell.cell_type == "code" and cell.metadata.nbgrader.solution:
                cell.source = "# This cell was missing."  # the empty stub would hide a function defined elsewhere
                notes.append(f"the cell {grade_id} was missing")
            before = [place for place, other in enumerate(built) if other.metadata.get("nbgrader", {}).get("grade_id") in order[:index]]
            built.insert(max(before, default=-1) + 1, cell)
    notebook = nbformat.v4.new_notebook(metadata=released.metadata, cells=built)
    return notebook, notes


def read_submission(paths, released):
    """The rebuilt notebook of the first of these files that can be read, else the empty one; with notes."""
    notes = []
    for path in paths:
        try:
            notebook, mended = rebuild(released, cells_in(path))
        except ValueError as error:
            notes.append(f"{path.name}: {error}")
        else:
            others = [other.name for other in paths if other is not path and other.suffix == ".ipynb"]
            skipped = [f"{', '.join(others)}: not used, as {path.name} is newer"] if others else []
            return notebook, [*(notes if path.suffix == ".ipynb" else []), *skipped, *mended]
    notebook, _ = rebuild(released, [])
    return notebook, notes
