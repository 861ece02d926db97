"""The five commands on a class in which hardly anybody behaves."""
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from homework import release

ROOT = Path(__file__).parents[2]
GUIDED = "ps1-guided-score"
REFERENCE = "def guided_score(p, label, w, process):\n    a = process.alpha\n    return lambda x, t: 0 * x\n"
SOURCE_FILE = ROOT / "book" / "homework" / "source" / "ps1.py"

# What stands in the place of problem 2; everything else is the reference.
HOSTILE = {
    "loop": "while True:\n    pass",
    "loop-inside": "def guided_score(p, label, w, process):\n    while True:\n        pass",
    "sleep-inside": "import time\ndef guided_score(p, label, w, process):\n    time.sleep(10**6)",
    "memory": "import numpy as np\ndef guided_score(p, label, w, process):\n    return lambda x, t: np.ones(20 * 2**30 // 8)[: x.size].reshape(x.shape)",
    "memory-at-once": "x = bytearray(20 * 2**30)",
    "exit": "import os\nos._exit(0)",
    "exit-inside": "import os\ndef guided_score(p, label, w, process):\n    os._exit(0)",
    "system-exit": "def guided_score(p, label, w, process):\n    raise SystemExit",
    "recursion": "def guided_score(p, label, w, process):\n    return guided_score(p, label, w, process)",
    "crash": "import faulthandler\ndef guided_score(p, label, w, process):\n    faulthandler._sigsegv()",
    "patches-the-package": "import guidance, guidance.guide\nfor module in (guidance, guidance.guide):\n"
                           "    module.cfg = lambda *a: (lambda x, t: 0 * x)\n" + REFERENCE,
    "patches-the-mixture": "from guidance import GaussianMixture\nGaussianMixture.score = lambda self, x: 0 * x\n" + REFERENCE,
    "patches-numpy": "import numpy as np\nnp.allclose = np.array_equal = lambda *a, **k: True\nnp.abs = lambda x: 0.0\n" + REFERENCE,
    "patches-assert": "import builtins\nbuiltins.AssertionError = Warning\nget_ipython().ast_transformers.clear()\n" + REFERENCE,
    "agrees-with-everything": "class Yes(float):\n    __eq__ = __lt__ = __le__ = lambda self, other: True\n    __sub__ = __rsub__ = lambda self, o: self\n"
                              "def guided_score(p, label, w, process):\n    return lambda x, t: Yes(0)",
    "reads-the-source": f"text = open({str(SOURCE_FILE)!r}).read()\n" + REFERENCE,
    "reads-it-in-c": f"import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.open({str(SOURCE_FILE).encode()!r}, 0) > 0\n" + REFERENCE,
    "starts-a-process": f"import subprocess\ntext = subprocess.check_output(['cat', {str(SOURCE_FILE)!r}])\n" + REFERENCE,
    "kills-the-grader": "import os, signal\ndef guided_score(p, label, w, process):\n    os.kill(os.getppid(), signal.SIGKILL)",
    "forks": "import os\nwhile True:\n    os.fork()",
    "writes-to-the-line": "import os\nfor number in range(3, 20):\n    try:\n        os.write(number, b'\\x00\\x00\\x00\\x0e{\"value\": true}' * 99)\n"
                          "    except OSError:\n        pass\n" + REFERENCE,
    "broken-message": "import os\nfor number in range(3, 20):\n    try:\n        os.write(number, b'\\xff' * 10**5)\n"
                      "    except OSError:\n        pass\n" + REFERENCE,
    "huge-answer": "import numpy as np\ndef guided_score(p, label, w, process):\n    return lambda x, t: np.zeros((4000, 5000))",
    "object-answer": "def guided_score(p, label, w, process):\n    return object()",
    "nan": "import numpy as np\ndef guided_score(p, label, w, process):\n    return lambda x, t: np.nan * x",
    "syntax": "def guided_score(p, label, w, process)\n    return (",
    "tells-the-arguments": "def guided_score(p, label, w, process):\n    raise RuntimeError('LEAK' + repr(p.means))",
    "tells-them-by-name": "def guided_score(p, label, w, process):\n    raise type('LEAK' + repr(w), (Exception,), {})()",
    "ages-files": f"import os\nos.utime({str(ROOT)!r}, (0, 0))\n" + REFERENCE,
    "half-a-character": "x = '\ud800'\n" + REFERENCE,
    "prints-for-ever": "def guided_score(p, label, w, process):\n    while True:\n        print('x' * 10**6)",
}
SECONDS = ("--cell-seconds", "4", "--check-seconds", "4", "--total-seconds", "90")


def notebook(name, changes=None):
    """The reference solution of a set as a student would hand it in, with some cells replaced."""
    made = release.solution_version("ps1", 11)
    for cell in made.cells:
        if cell.id in (changes or {}):
            cell.source = changes[cell.id]
    made.metadata["who"] = name
    return made


def write(folder, student, made, file="ps1.ipynb"):
    (folder / student).mkdir(parents=True)
    (folder / student / file).write_text(made if isinstance(made, str) else json.dumps(made), encoding="utf-8")


def hand_in(folder):
    """The files of the whole class, as a download has them."""
    write(folder, "right", notebook("right"))
    write(folder, "blank", release.student_version("ps1", 11))
    write(folder, "renamed", notebook("renamed"), "My Homework (final) 2.ipynb")
    write(folder, "renamed-twice", notebook("renamed"), "ps1.ipynb.txt")
    write(folder, "corrupt", nbformat.writes(notebook("corrupt"))[:-700])
    write(folder, "no-notebook", "[1, 2, 3]")
    write(folder, "deep", "[" * 100_000)
    kernel = notebook("wrong-kernel")
    kernel.metadata.kernelspec = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
    write(folder, "wrong-kernel", kernel)
    deleted = notebook("deleted")
    deleted.cells = [cell for cell in deleted.cells if cell.id not in (GUIDED, "ps1-check-guided", "ps1-proof", "ps1-imports")]
    write(folder, "deleted", deleted)
    stripped = notebook("stripped")
    for cell in stripped.cells:
        cell.metadata.pop("nbgrader", None)
    write(folder, "stripped", stripped)
    points = notebook("raises-the-points")
    for cell in points.cells:
        if cell.metadata.get("nbgrader", {}).get("points"):
            cell.metadata.nbgrader.points = 1000
        if cell.id == "ps1-check-ddim":
            cell.source, cell.outputs = "8.0", [nbformat.v4.new_output("execute_result", {"text/plain": "1000"})]
    write(folder, "raises-the-points", points)
    helper = notebook("helper", {GUIDED: "guided_score = mine"})
    helper.cells.insert(1, nbformat.v4.new_code_cell(
        "%matplotlib inline\n!pip install nothing\ndef mine(p, label, w, process):\n    def field(x, t):\n"
        "        c, u = (q.noised(process.alpha(t), process.sigma(t)).score(x) for q in (p.given(label), p))\n"
        "        return (1 + w) * c - w * u\n    return field"))
    write(folder, "added-a-cell", helper)
    write(folder, "magic", notebook("magic", {"ps1-ddim-step": "%time 1 + 1\n" + next(
        cell.source for cell in notebook("x").cells if cell.id == "ps1-ddim-step")}))
    markup = notebook("markup")
    for cell in markup.cells:
        if cell.id == "ps1-proof":
            cell.source = "Proof <script>document.title = 'MARKUP'</script> <img src=x onerror=y>"
    write(folder, "markup", markup)
    for name, code in HOSTILE.items():
        write(folder, name, notebook(name, {GUIDED: code}))
    (folder / "in-no-folder_ps1.ipynb").write_text(nbformat.writes(notebook("flat")), encoding="utf-8")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course's folder after the five commands, and what they printed."""
    home, folder = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("downloads")
    hand_in(folder)
    printed = {}

    def command(name, *arguments):
        done = subprocess.run([sys.executable, "-m", "homework", name, "--course", str(home), *arguments], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT / "tools")})
        assert done.returncode == 0, done.stdout + done.stderr
        printed[name] = done.stdout

    command("release", "--set", "ps1", "--seed", "11")
    command("collect", "--set", "ps1", "--from", str(folder))
    command("grade", "--set", "ps1", "--workers", "4", *SECONDS)
    command("feedback", "--set", "ps1")
    command("export")
    return home, printed


@pytest.fixture(scope="module")
def points(course):
    with open(course[0] / "points-ps1.csv", encoding="utf-8") as file:
        return {row["student_id"]: {key: float(value) for key, value in row.items() if key != "student_id"} for row in csv.DictReader(file)}


def test_everybody_is_graded_and_exported(course, points):
    with open(course[0] / "grades.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["student_id"] for row in rows} == set(points) and len(points) == 15 + len(HOSTILE)
    for row in rows:
        assert float(row["raw_score"]) == points[row["student_id"]]["sum"] and float(row["max_score"]) == 40


@pytest.mark.parametrize("student", ["right", "renamed", "renamed-twice", "wrong-kernel", "stripped", "raises-the-points", "added-a-cell", "magic", "in-no-folder", "markup"])
def test_the_right_ones_keep_every_point(points, student):
    assert points[student]["sum"] == 29


@pytest.mark.parametrize("student", ["blank", "corrupt", "no-notebook", "deep"])
def test_nothing_gets_nothing(points, student):
    assert points[student]["sum"] == 0


@pytest.mark.parametrize("student", ["deleted", *HOSTILE])
def test_mischief_costs_its_own_problem_and_no_other(points, student):
    assert points[student]["ps1-check-guided"] == 0
    if not student.startswith("patches") and student not in ("writes-to-the-line", "broken-message"):
        assert points[student]["sum"] == 21


def test_the_feedback_says_what_was_wrong_and_shows_no_check(course):
    for student in ("right", "blank", "corrupt", "loop", "deleted"):
        page = (course[0] / "feedback" / student / "ps1" / "ps1.html").read_text(encoding="utf-8")
        assert "HIDDEN TESTS" not in page and "relative_error" not in page
    for student in HOSTILE:
        assert not re.search(r"LEAK[\[\dan]", (course[0] / "feedback" / student / "ps1" / "ps1.html").read_text(encoding="utf-8"))
    page = (course[0] / "feedback" / "markup" / "ps1" / "ps1.html").read_text(encoding="utf-8")
    assert "MARKUP" in page and "<script>document.title" not in page and "<img src=x" not in page
    assert "took too long" in (course[0] / "feedback" / "loop-inside" / "ps1" / "ps1.html").read_text(encoding="utf-8")
    assert "cannot be read" in (course[0] / "feedback" / "corrupt" / "ps1" / "ps1.html").read_text(encoding="utf-8")
    assert (course[0] / "feedback-ps1.zip").exists()


def test_answers_in_words_wait_for_a_reader(course):
    from homework.__main__ import gradebook

    with gradebook(course[0]).gradebook as book:
        waiting = {name: book.find_submission("ps1", name).needs_manual_grade for name in ("right", "blank")}
    assert waiting == {"right": True, "blank": False}
    assert "are not marked yet" in course[1]["export"]


def test_the_release_holds_no_solution(course):
    text = (course[0] / "release" / "ps1" / "ps1.ipynb").read_text(encoding="utf-8")
    for secret in ("HIDDEN TESTS", "BEGIN SOLUTION", "Mark scheme", "relative_error", "draw_pairs"):
        assert secret not in text
    assert json.loads(text)["cells"]


def test_the_fences_stood(course):
    fences = json.loads((course[0] / "results" / "ps1" / "right.json").read_text())["fences"]
    assert fences["limits"]
    if sys.platform.startswith("linux") and fences["landlock"] is False:
        pytest.skip("this kernel has no Landlock")
