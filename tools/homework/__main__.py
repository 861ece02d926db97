"""The five commands of a lecturer; `make release SET=ps1` is `python tools/make.py release --set ps1`."""
from __future__ import annotations

import argparse
import csv
import json
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbgrader.apps.api import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from nbgrader.preprocessors import AssignLatePenalties, CheckCellMetadata, NbGraderPreprocessor, SaveAutoGrades
from sqlalchemy.exc import SAWarning
from tqdm import tqdm
from traitlets.config import Config

from homework import collect, grade, release


class ShowMarks(NbGraderPreprocessor):
    """Writes the points that `grade` found into the graded cells, in the place of nbgrader's own execution."""

    def preprocess(self, nb, resources):
        place = resources["nbgrader"]
        marked = json.loads(Path("results", place["assignment"], f"{place['student']}.json").read_text(encoding="utf-8"))
        for cell in nb.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id", cell.get("id"))
            if name in marked["checks"]:
                found = marked["checks"][name]
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="\n".join(found["lines"]) + "\n"),
                                nbformat.v4.new_output("execute_result", {"text/plain": str(found["points"])}, execution_count=None)]
            elif name in marked["errors"] and cell.cell_type == "code":
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"The grader ran this cell: {marked['errors'][name]}.\n")]
        return nb, resources


PREPROCESSORS = [ShowMarks, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata]


def write_config(course):
    """Let nbgrader itself, when it is started in the course's folder, use our marks too."""
    (course / "nbgrader_config.py").write_text(
        f"import sys\n\nsys.path.insert(0, {str(grade.TOOLS)!r})\nfrom homework.__main__ import PREPROCESSORS\n\n"
        "c = get_config()\nc.Autograde.autograde_preprocessors = PREPROCESSORS\n", encoding="utf-8")


def gradebook(course):
    """nbgrader on a course folder, quiet, with our marks in the place of its execution."""
    config = Config()
    config.CourseDirectory.root = str(course.resolve())
    config.NbGrader.logfile = ""
    config.Application.log_level = config.NbGrader.log_level = 50
    config.Autograde.autograde_preprocessors = PREPROCESSORS
    return NbGraderAPI(config=config)


def course_seed(course, given=None):
    """The course's seed: given now, or before, or drawn; kept in the course folder. Raises ValueError for another than before."""
    path = course / "seed"
    kept = int(path.read_text()) if path.exists() else None
    if given is not None and kept is not None and given != kept:
        raise ValueError(f"seed={given} is not the seed {kept} of the course in {course}; another year takes another folder: COURSE=...")
    seed = next(value for value in (kept, given, secrets.randbelow(10**9)) if value is not None)
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    course.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{seed}\n")
    return seed


def released(course, name):
    path = course / "release" / name / f"{name}.ipynb"
    if not path.exists():
        raise ValueError(f"set {name} is not released in {course} yet: run make release SET={name} first")
    return nbformat.read(path, as_version=4)


def run_release(course, name, seed):
    """Write release/, solution/ and a zip for one set."""
    write_config(course)
    api = gradebook(course)
    with api.gradebook as book:
        if name in [assignment.name for assignment in book.assignments] and book.assignment_submissions(name):
            raise ValueError(f"set {name} has submissions in {course} already; another year takes another folder: COURSE=...")
    for kind, notebook in (("source", release.without_checks(name, seed)), ("solution", release.solution_version(name, seed))):
        path = course / kind / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
    made = api.generate_assignment(name, force=True, create=True)
    if not made["success"]:
        raise RuntimeError(f"nbgrader made no notebook of {name}:\n{made.get('log') or made.get('error')}")
    shutil.make_archive(str(course / "release" / name), "zip", course / "release", name)
    return course / "release" / f"{name}.zip"


def run_collect(course, name, origin):
    """Write submitted/<student>/<set>/ for everything found; returns {student: notes}."""
    target, origin = released(course, name), Path(origin).expanduser()
    if not origin.exists():
        raise ValueError(f"from={str(origin)!r} does not exist")
    notes = {}
    with tempfile.TemporaryDirectory() as unpacked:
        students = collect.gather(collect.unpack(origin, Path(unpacked, "all")) if origin.is_file() else origin, name)
        for number, (student, paths) in enumerate(students.items()):
            try:
                notebook, notes[student] = collect.read_submission(list(collect.opened(paths, Path(unpacked, str(number)))), target)
                text = nbformat.writes(with_note(notebook, notes[student]))
            except Exception as error:  # whatever one student sent, the others are collected
                notebook, _ = collect.rebuild(target, [])
                notes[student] = [f"nothing could be taken in ({type(error).__name__}): look at {paths[0].name} yourself"]
                text = nbformat.writes(with_note(notebook, notes[student]))
            path = course / "submitted" / student / name / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return notes


def with_note(notebook, lines):
    """The notebook with what was mended in it at its top."""
    if lines:
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(collect.harmless("Note: " + "; ".join(lines) + "."), id="note"))
    return notebook


def run_grade(course, name, workers, limits):
    """Mark every submission and enter the points; returns {student: results}."""
    seed, source = course_seed(course), release.read_source(name)
    public = release.public_cells(released(course, name))
    paths = {path.parent.parent.name: path for path in sorted(course.glob(f"submitted/*/{name}/{name}.ipynb"))}
    if not paths:
        raise ValueError(f"set {name} has no submissions in {course}: run make collect SET={name} FROM=... first")

    def mark(student):
        try:
            return marked(student)
        except Exception as error:  # a fault of ours or of one notebook's: the others are marked
            empty = {cell.metadata.nbgrader.grade_id: {"points": 0.0, "most": cell.metadata.nbgrader.points, "lines": ["not marked yet"]}
                     for cell in source.cells if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade")}
            return {"checks": empty, "errors": {}, "fences": {}, "failed": f"{type(error).__name__}: {error}"}

    def marked(student):
        notebook = nbformat.read(paths[student], as_version=4)
        cells = [(cell.metadata.get("nbgrader", {}).get("grade_id", cell.id), cell.source) for cell in notebook.cells
                 if cell.cell_type == "code" and not cell.metadata.get("nbgrader", {}).get("grade")]
        checks, errors, fences = grade.mark(source, public, cells, seed, limits)
        return {"checks": {key: vars(marked) for key, marked in checks.items()}, "errors": errors, "fences": fences}

    results, folder = {}, course / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(workers)
    try:
        running = {pool.submit(mark, student): student for student in paths}
        for done in tqdm(as_completed(running), total=len(paths), desc=f"marking {name}"):
            results[running[done]] = done.result()
            (folder / f"{running[done]}.json").write_text(json.dumps(done.result(), indent=1), encoding="utf-8")
    finally:
        pool.shutdown(cancel_futures=True)
    results = {student: results[student] for student in paths}
    api = gradebook(course)
    for student in tqdm(paths, desc="entering the points"):
        entered = api.autograde(name, student, force=True, create=True)
        if not entered["success"]:
            results[student]["failed"] = f"nbgrader refused the notebook: {entered.get('error') or entered.get('log')}"
    write_points(course / f"points-{name}.csv", results)
    return results


def write_points(path, results):
    """A table of the points, a row a student and a column a graded cell."""
    checks = list(next(iter(results.values()))["checks"])
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student_id", *checks, "sum"])
        for student, result in results.items():
            points = [result["checks"][name]["points"] for name in checks]
            table.writerow([student, *points, sum(points)])


def run_feedback(course, name):
    """Write feedback/<student>/<set>/<set>.html for everyone, and one zip of them."""
    api, graded = gradebook(course), sorted(path.parent.name for path in course.glob(f"autograded/*/{name}"))
    if not graded:
        raise ValueError(f"set {name} is not graded in {course} yet: run make grade SET={name} first")
    written = [student for student in tqdm(graded, desc="writing the feedback")
               if api.generate_feedback(name, student, force=True)["success"]]
    for student in set(graded) - set(written):
        print(f"  LOOK: nbgrader wrote no feedback for {student}")
    with tempfile.TemporaryDirectory() as folder:
        for student in written:
            shutil.copytree(course / "feedback" / student / name, Path(folder) / student)
        shutil.make_archive(str(course / f"feedback-{name}"), "zip", folder)
    return course / f"feedback-{name}.zip"


def unmarked(course, name=None):
    """How many submissions hold answers in words that nobody has marked yet."""
    with gradebook(course).gradebook as book:
        return sum(submission.needs_manual_grade for assignment in book.assignments if name in (None, assignment.name)
                   for submission in book.assignment_submissions(assignment.name))


def run_export(course):
    """Write grades.csv of every set and student."""
    plugin = CsvExportPlugin()
    plugin.to = str(course / "grades.csv")
    with gradebook(course).gradebook as book:
        plugin.export(book)
    return course / "grades.csv"


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="make", description="Release, collect, grade and return the problem sets.")
    parser.add_argument("command", choices=("release", "collect", "grade", "feedback", "export"))
    parser.add_argument("--set", help="ps1 to ps5; release alone takes all of them when none is named")
    parser.add_argument("--from", dest="origin", help="collect: the folder or zip that the submissions were downloaded to")
    parser.add_argument("--seed", type=int, help="release: the course seed, a number that you keep to yourself")
    parser.add_argument("--course", type=Path, default=release.SOURCES.parents[2] / "course", help="the course's own folder")
    parser.add_argument("--workers", type=int, default=2, help="grade: submissions that are marked at a time")
    parser.add_argument("--cell-seconds", type=float, default=grade.Limits.cell, help="grade: time of one cell")
    parser.add_argument("--check-seconds", type=float, default=grade.Limits.check, help="grade: time of all calls of one problem")
    parser.add_argument("--total-seconds", type=float, default=grade.Limits.total, help="grade: time of a whole submission")
    parser.add_argument("--memory-gib", type=float, default=grade.Limits.memory / 2**30, help="grade: memory of a submission")
    given = parser.parse_args(arguments)
    course = given.course.expanduser()
    warnings.filterwarnings("ignore", category=SAWarning)  # of nbgrader's own making
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # nbgrader calls alembic
    if given.command in ("collect", "grade", "feedback") and not given.set:
        parser.error(f"{given.command} needs SET=, one of {', '.join(release.sets())}")
    if given.command == "collect" and not given.origin:
        parser.error("collect needs FROM=, the folder that the submissions were downloaded to")
    if given.set and given.set not in release.sets():
        parser.error(f"SET={given.set} does not exist; there are {', '.join(release.sets())}")
    if given.command == "release":
        seed = course_seed(course, given.seed)
        for name in [given.set] if given.set else release.sets():
            print(f"give {run_release(course, name, seed)} to the students; {course / 'solution' / name} is yours")
        print(f"the seed of this course is in {course / 'seed'}: keep it to yourself")
    elif given.command == "collect":
        notes = run_collect(course, given.set, given.origin)
        print(f"collected {len(notes)} submissions of {given.set}")
        for student, lines in notes.items():
            for line in lines:
                print(f"  {student}: {line}")
    elif given.command == "grade":
        limits = grade.Limits(int(given.memory_gib * 2**30), given.cell_seconds, given.check_seconds, given.total_seconds)
        results = run_grade(course, given.set, given.workers, limits)
        for student, result in results.items():
            checks = result["checks"].values()
            print(f"  {student:24} {sum(c['points'] for c in checks):5g} of {sum(c['most'] for c in checks):g}")
        for student, result in results.items():
            if "failed" in result:
                print(f"  LOOK: {student} could not be marked and has no points: {result['failed']}")
        fenced = all(result["fences"].get("landlock") for result in results.values())
        print(f"points of each problem: {course / f'points-{given.set}.csv'}; answers in words wait for you in nbgrader")
        print("each submission ran in a process of its own, its files fenced by " + ("the kernel" if fenced else "Python alone: see the guide"))
    elif given.command == "feedback":
        print(f"return {run_feedback(course, given.set)}")
    else:
        print(f"grades of everyone: {run_export(course)}")
    if given.command in ("feedback", "export") and (open_ones := unmarked(course, given.set)):
        print(f"answers in words of {open_ones} submissions are not marked yet and count as zero")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
