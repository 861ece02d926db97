"""Writes the students' notebooks, which are pages of the book, and a zip of them, from the sources of the problem sets.

They are made before the pages are read, and rewritten only when they differ, so that an unchanged build stays quick. Nothing
of a source but what `release.student_version` leaves of it comes into the folder that the site is built from.
"""
import sys
import zipfile
from pathlib import Path

import nbformat


def setup(app):
    root = Path(app.srcdir)
    if (root / "book" / "homework" / "source").is_dir():
        write(root)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(root):
    sys.path.insert(0, str(root / "tools"))
    from homework import release

    folder, names = root / "book" / "homework", release.sets()
    for name in names:
        text, path = nbformat.writes(release.student_version(name, release.PRACTICE_SEED)) + "\n", folder / f"{name}.ipynb"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    with zipfile.ZipFile(folder / "problem-sets.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in names:
            entry = zipfile.ZipInfo(f"problem-sets/{name}.ipynb")  # with the date of 1980, so that equal notebooks make an equal zip
            zipped.writestr(entry, (folder / f"{name}.ipynb").read_bytes(), zipfile.ZIP_DEFLATED)
