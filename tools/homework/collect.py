"""What students handed in, whatever its names and its state, in the one form that the grader and nbgrader read.

Each notebook is rebuilt on the one that was released: the student's own cells are taken, locked cells come from the
release, cells that are gone are put back empty. A file that cannot be read becomes an empty notebook that says so. No words
of a student's become markup: the rebuilt notebook is opened in the lecturer's browser.
"""
from __future__ import annotations

import copy
import json
import os
import re
import time
import zipfile
from pathlib import Path

import nbformat

LARGEST = 100 * 2**20  # bytes of a notebook that is read
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db")
PICTURES = ("image/png", "image/jpeg")


def unpack(archive, folder):
    """Extract a zip, each file with its own time; in the place of one that is too large stands a line that says so."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            if not member.is_dir():
                small = member.file_size <= LARGEST
                path = Path(zipped.extract(member, folder)) if small else Path(folder, Path(member.filename).parent.name, Path(member.filename).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if not small:
                    path.write_text("too large to be read")
                os.utime(path, (time.mktime((*member.date_time, 0, 0, -1)),) * 2)
    return Path(folder)


def owner(path, folder, name):
    """Whose file this is, and what tells namesakes apart: the folder it lies in, else what its name holds beside the set's.

    Understood are a folder a student, Moodle's "First Last_123_assignsubmission_file", Canvas' "lastfirst_123_456_name.ipynb",
    "student_ps1.ipynb", "ps1_student.ipynb" and "student.ipynb".
    """
    parts = [part for part in path.relative_to(folder).parts[:-1] if part != name]
    whole = parts[0] if parts else path.name
    system = re.match(r"(.+?)_(\d+)_assignsubmission", whole) or (None if parts else re.match(r"(.+?)(?:_LATE)?_(\d+)_\d+_", whole))
    if system:
        found, mark = system.groups()
    elif parts:
        found, mark = whole, whole
    else:
        found, mark = re.sub(rf"^{name}[ _-]+|[ _-]+{name}\b.*$", "", whole.split(".")[0], flags=re.IGNORECASE), ""
    return re.sub(r"[^\w-]+", "-", found).strip("-") or "nobody", mark


def unwrap(folder, name):
    """The folder itself, or the only one in it where that holds more than one person's files."""
    inside = [path for path in folder.iterdir() if path.name not in IGNORED]
    if len(inside) == 1 and inside[0].is_dir():
        within = [path for path in inside[0].iterdir() if path.name not in IGNORED]
        named = {owner(path, inside[0], name) for path in within if path.is_file() and (name in path.name.lower() or re.search(r"_\d+_", path.name))}
        if any(path.is_dir() for path in within) or len(named) > 1:
            return unwrap(inside[0], name)
    return folder


def gather(folder, name):
    """{student: files, notebooks and the newest first}; namesakes keep a number. Raises ValueError where there is no file."""
    folder = unwrap(Path(folder), name)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink() and not set(path.parts) & set(IGNORED)]
    if not files:
        raise ValueError(f"from={str(folder)!r} holds no files; give the folder that the submissions were downloaded to")
    owners = {}
    for path in files:
        owners.setdefault(owner(path, folder, name), []).append(path)
    namesakes = {}
    for student, mark in owners:
        namesakes.setdefault(student, []).append(mark)
    students = {}
    for (student, mark), paths in owners.items():
        several = len(namesakes[student]) > 1
        own = f"{student}-{mark if mark.isdigit() else namesakes[student].index(mark) + 1}" if several else student
        students[own] = sorted(paths, key=lambda path: (path.suffix == ".ipynb", path.stat().st_mtime), reverse=True)
    return dict(sorted(students.items()))


def opened(paths, folder):
    """The files, with zips among them replaced by what they hold, extracted into the folder."""
    for number, path in enumerate(paths):
        if zipfile.is_zipfile(path):
            yield from sorted(path for path in unpack(path, Path(folder, str(number))).rglob("*.ipynb") if not set(path.parts) & set(IGNORED))
        else:
            yield path


def harmless(words):
    """Markdown in which nothing is markup of HTML: a space after "<" changes neither words nor formulas."""
    return re.sub(r"<(?=[A-Za-z/!?])", "< ", words)


def pictures(cell):
    """The photographs and drawings that a cell of words brings along."""
    kept = {}
    for name, data in (cell.get("attachments") or {}).items():
        data = {kind: text for kind, text in data.items() if kind in PICTURES and re.fullmatch(r"[A-Za-z0-9+/=\s]+", text)}
        if data and re.fullmatch(r"[\w .()-]+", name):
            kept[name] = data
    return kept


def cells_in(path):
    """[(kind, grade_id or None, source, pictures)] of a notebook file. Raises ValueError for what is none."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        cells = data["cells"] if "cells" in data else [cell for sheet in data["worksheets"] for cell in sheet["cells"]]
        found = []
        for cell in cells:
            source = cell.get("source", cell.get("input", ""))
            source = source if isinstance(source, str) else "".join(source)
            source = source.encode("utf-8", "replace").decode()  # half a character, as no text may hold it
            settings = cell.get("metadata", {}).get("nbgrader", {})
            grade_id = settings.get("grade_id") if isinstance(settings, dict) else None
            found.append((str(cell["cell_type"]), grade_id if isinstance(grade_id, str) else None, source, pictures(cell)))
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it cannot be read as a notebook ({type(error).__name__})") from None


def rebuild(released, cells):
    """The released notebook with the student's cells in it, and notes on what was mended.

    Known cells stand in the order of the release. A cell that the student added, or had twice, follows the known one that it followed; a locked cell
    of code that was changed runs as released and then as changed, for it may hold a helper.
    """
    known = {cell.metadata.nbgrader.grade_id: cell for cell in released.cells if "nbgrader" in cell.metadata}
    answers, after, notes, last = {}, {}, [], None
    for kind, grade_id, source, attached in cells:
        cell = known.get(grade_id)
        if cell is None:
            after.setdefault(last, []).append((kind, source, attached))
            continue
        changed, last = source.strip() != cell.source.strip(), grade_id
        if not cell.metadata.nbgrader.solution:
            if changed and kind == "code" and not cell.metadata.nbgrader.grade:
                after.setdefault(grade_id, []).append((kind, source, attached))
                notes.append(f"the locked cell {grade_id} was changed: it runs as it was, then as changed")
        elif cell.cell_type == "code" and grade_id in answers:
            after.setdefault(grade_id, []).append((kind, source, attached))
            notes.append(f"the cell {grade_id} was there more than once: all of it runs")
        else:
            answers.setdefault(grade_id, []).append((source, attached, changed))
    added = any(kind != "code" and source.strip() for group in after.values() for kind, source, _ in group)
    built = [added_cell(*cell, f"added-{number}") for number, cell in enumerate(after.get(None, ()))]
    for grade_id, cell in known.items():
        cell = copy.deepcopy(cell)
        if cell.metadata.nbgrader.solution:
            fill(cell, answers.get(grade_id, []), added)
            if grade_id not in answers and cell.cell_type == "code":
                notes.append(f"the cell {grade_id} was missing")
        built += [cell, *(added_cell(*extra, f"added-{grade_id}-{number}"[:64]) for number, extra in enumerate(after.get(grade_id, ())))]
    if not answers and cells:
        notes = ["no cell bears its mark any more, as after a visit to Colab: the functions are looked for in all cells"]
    return nbformat.v4.new_notebook(metadata=released.metadata, cells=built), notes


def fill(cell, answers, added):
    """Put what the student wrote into a cell of the release."""
    if cell.cell_type == "code":
        # The empty stub of a cell that is gone would hide a function defined elsewhere.
        cell.source = answers[0][0] if answers else "# This cell was missing."
        return
    written = [(source, attached) for source, attached, changed in answers if changed]
    if written:
        cell.source = harmless("\n\n".join(source for source, _ in written))
        attachments = {name: data for _, attached in written for name, data in attached.items()}
        if attachments:
            cell.attachments = attachments
    elif added:  # a changed cell is one that somebody reads before it gets a zero
        cell.source += "\n\n*(Left empty, but there are cells that the student added: look there.)*"


def added_cell(kind, source, attached, name):
    if kind == "code":
        return nbformat.v4.new_code_cell(source, id=name)
    cell = nbformat.v4.new_markdown_cell(harmless(source), id=name)
    if attached:
        cell.attachments = attached
    return cell


def read_submission(paths, released):
    """The rebuilt notebook of the newest of these files with cells of this set, else of any that can be read, else empty; with notes."""
    ours = {cell.metadata.nbgrader.grade_id for cell in released.cells if "nbgrader" in cell.metadata}
    read, notes = [], []
    for path in paths:
        try:
            read.append((path, cells_in(path)))
        except ValueError as error:
            notes.append(f"{path.name}: {error}")
    if not read:
        return rebuild(released, [])[0], notes
    path, cells = max(read, key=lambda entry: sum(grade_id in ours for _, grade_id, _, _ in entry[1]) > 0)
    notebook, mended = rebuild(released, cells)
    others = [other.name for other, _ in read if other is not path]
    return notebook, [*(f"{path.name} was taken, {other} was not" for other in others), *notes, *mended]
