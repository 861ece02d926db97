"""The self-checks: what `check` prints and refuses, and the check cells of all chapters."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from guidance import checks
from guidance.checks import check, find
from guidance.checks.judging import (as_array, as_choice, as_function, as_number, first_hint, judged as verdict, judged_function, near)

ROOT = Path(__file__).parents[2]
CONTENTS = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
CHAPTERS = [chapter["file"] for part in CONTENTS if part.get("numbered") for chapter in part["chapters"]]
NUMBER_OF = {file: number for number, file in enumerate(CHAPTERS, 1)}
PAGES = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("book/part*/*.ipynb"))
DIRECTIVE = re.compile(r"^(`{3,}|:{3,})\{(exercise|solution)(?:-start)?\}", re.M)


@pytest.fixture
def scratch(monkeypatch):
    """An empty register, so that a test can add exercises of its own."""
    monkeypatch.setattr(checks, "EXERCISES", {})


def judged(hint, number="2.10"):
    calls = []

    @checks.exercise(number, expects="a number")
    def judge(answer):
        calls.append(answer)
        return hint

    return calls


# The mechanism


def test_a_number_without_a_check_lists_those_with_one():
    with pytest.raises(ValueError, match="^number '99.1' has no check; these exercises have one: ") as caught:
        check("99.1", 1.0)
    listed = str(caught.value).split(": ")[1].split(", ")
    assert listed == sorted(checks.EXERCISES, key=lambda name: [int(part) for part in name.split(".")])
    assert {"1.1", "5.6"} < set(listed)


def test_the_list_is_in_the_order_of_the_book(scratch):
    for number in ("10.1", "2.10", "2.9"):
        judged(None, number)
    with pytest.raises(ValueError, match="have one: 2.9, 2.10, 10.1$"):
        find("2.11")


@pytest.mark.parametrize("number", [1.1, None, "1", "01.1", " 1.1", ["1.1"], {"1.1"}])
def test_a_number_of_another_kind_is_refused(number):
    with pytest.raises(ValueError, match="has no check"):
        find(number)


def test_an_exercise_has_one_check(scratch):
    judged(None)
    with pytest.raises(ValueError, match="number '2.10' has two checks"):
        judged(None)


def test_dots_are_no_answer_yet(scratch, capsys):
    calls = judged("never seen")
    assert check("2.10", ...) is None
    assert capsys.readouterr().out == "2.10: no answer yet. Put a number in the place of the three dots and run the cell again.\n"
    assert calls == []


@pytest.mark.parametrize("hint, printed", [(None, "2.10: right.\n"), ("Mind the sign.", "2.10: not yet. Mind the sign.\n")])
def test_what_is_printed(scratch, capsys, hint, printed):
    calls = judged(hint)
    assert check("2.10", 0.5) is None
    assert capsys.readouterr().out == printed
    assert calls == [0.5]


def test_an_error_of_the_judge_is_raised(scratch):
    @checks.exercise("2.10", expects="a number")
    def judge(answer):
        return as_number(answer)

    with pytest.raises(ValueError, match="answer must be one finite number, not 'one'"):
        check("2.10", "one")


@pytest.mark.parametrize("answer", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0)])
def test_a_number(answer):
    value = as_number(answer)
    assert type(value) is float and value == 2.0


@pytest.mark.parametrize("answer", [True, np.bool_(True), np.array(True), "2", None, ..., 2 + 0j, np.nan, -np.inf, [2.0], np.array([2.0]), abs])
def test_no_number(answer):
    with pytest.raises(ValueError, match="answer must be one finite number"):
        as_number(answer)


@pytest.mark.parametrize("answer", [[1, 2], (1.0, 2.0), np.array([1, 2]), np.array([1, 2], np.float32), [np.array(1.0), 2]])
def test_an_array(answer):
    array = as_array(answer, (2,))
    assert array.dtype == np.float64 and array.tolist() == [1.0, 2.0]


def test_an_array_of_two_axes():
    assert as_array([[1, 2, 3]], (1, 3)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"answer must have shape \(1, 3\), not \(3,\)"):
        as_array([1, 2, 3], (1, 3))


@pytest.mark.parametrize("answer", [1.0, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [1.0, np.nan], [1.0, np.inf], None, ["a", "b"], [1.0, [2.0, 3.0]]])
def test_no_array(answer):
    with pytest.raises(ValueError):
        as_array(answer, (2,))


@pytest.mark.parametrize("answer", [abs, {1.0, 2.0}, [1.0, abs], [1.0, 2j], np.array([1.0, 2j]), ["1", "2"], [True, False], [True, 2.0], [1.0, "2"]])
def test_no_array_of_real_numbers(answer):
    with pytest.raises(ValueError):
        as_array(answer, (2,))


@pytest.mark.parametrize("answer", ["grows", "Grows", " GROWS\n"])
def test_a_choice(answer):
    assert as_choice(answer, ("grows", "falls")) == "grows"


@pytest.mark.parametrize("answer", ["grow", "", "grows falls", None, 1, ["grows"]])
def test_no_choice(answer):
    with pytest.raises(ValueError, match="answer must be one of 'grows', 'falls', not"):
        as_choice(answer, ("grows", "falls"))


def test_a_function():
    assert as_function(np.sin) is np.sin
    for answer in (1.0, None, "sin", [np.sin]):
        with pytest.raises(ValueError, match="answer must be a function, not .*without brackets"):
            as_function(answer)


def test_near():
    assert near(1.0009, 1.0) and not near(1.0011, 1.0)
    assert near([1.0, 2.0], [1.0, 2.001]) and not near([1.0, 2.0], [1.0, 2.1])
    assert near(0.01, 0.0, rtol=0, atol=0.02) and not near(0.01, 0.0)
    assert not near(np.nan, 1.0) and not near(np.nan, np.nan)


def test_the_first_mistake_that_fits_gives_the_hint_and_no_later_one_is_computed():
    mistakes = [(3.0, "a"), (lambda: 2.0, "b"), (lambda: 1 / 0, "c")]
    assert first_hint(2.0, mistakes, "d") == "b"
    assert first_hint(5.0, mistakes[:2], "d") == "d"
    assert verdict(1.0, 1.0, mistakes, "d") is None and verdict(1.2, 1.0, [(1.21, "a")], "d", rtol=0, atol=0.02) == "a"


def test_of_several_numbers_it_says_which_are_right():
    truth = np.array([1.0, 2.0, 3.0])
    assert verdict([1.0, 2.0, 3.0], truth, [], "Start.") is None
    assert verdict([1.0, 0.0, 3.0], truth, [], "Start.") == "Of your 3 numbers, these are right: number 1, 3. Start."
    assert verdict([0.0, 0.0, 0.0], truth, [], "Start.") == "Start."
    assert verdict([1.0, 0.0, 0.0], truth, [([1.0, 0.0, 0.0], "That one.")], "Start.") == "That one."


@pytest.mark.parametrize("value, said", [
    (None, "Your function returns nothing at a = 1, b = 0.5: does it end with return?"),
    ("2", "Your function must return one real number; at a = 1, b = 0.5 it returns '2'."),
    (True, "at a = 1, b = 0.5 it returns True."),
    (2j, "at a = 1, b = 0.5 it returns 2j."),
    (np.ones(3), "at a = 1, b = 0.5 it returns an array of shape (3,)."),
    ([], "at a = 1, b = 0.5 it returns an array of shape (0,)."),
    ([[1.0], [2.0, 3.0]], "must return one real number"),
    (np.nan, "Your function returns NaN or infinity at a = 1, b = 0.5."),
    (0.0, "The value is wrong, for example at a = 2, b = 3. Start."),
    (np.array([1.5]), "Minus."),
])
def test_a_function_that_is_not_right(value, said):
    cases = [(1.0, 0.5), (2.0, 3.0)]
    hint = judged_function(lambda a, b: value, "a, b", cases, lambda a, b: a + b, [(lambda a, b: 1.5, "Minus.")], "Start.")
    assert said in hint


def test_a_function_that_is_right():
    assert judged_function(np.add, "a, b", zip([1.0, 2.0], [0.5, 3.0]), [1.5, 5.0], [], "Start.") is None
    assert judged_function(lambda x, w: w * x, "x, w", [(np.ones(2), 3.0)], lambda x, w: w * x, [], "Start.", shape=(2,)) is None
    hint = judged_function(lambda x, w: x[:1], "x, w", [(np.ones(2), 3.0)], lambda x, w: w * x, [], "Start.", shape=(2,))
    assert hint == "Your function must return an array of shape (2,); at w = 3 it returns an array of shape (1,)."


def test_the_package_does_not_load_the_checks_nor_these_anything_heavy():
    code = ("import sys, guidance; assert 'guidance.checks' not in sys.modules; import guidance.checks as c; c.find('1.1'); "
            "heavy = {'torch', 'matplotlib', 'scipy.stats', 'scipy.optimize', 'sklearn', 'IPython'} & set(sys.modules); assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)


# The check cells of the chapters


def check_cells(page):
    """(cell, position of the exercise directly above it) for each cell that calls `check`; position None for no exercise."""
    found, exercises, above = [], 0, None
    for cell in nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            kinds = [kind for _, kind in DIRECTIVE.findall(cell.source)]
            exercises += kinds.count("exercise")
            above = exercises if kinds and kinds[-1] == "exercise" and cell.source.rstrip().endswith(("```", ":::")) else None
            continue
        if "check" in {node.func.id for node in ast.walk(parsed(cell)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}:
            found.append((cell, above))
        above = None
    return found


def parsed(cell):
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!"))))


def number_asked(cell):
    """The number of a blank check cell: `name = ...`, then `check(number, name)`, and nothing but an import before."""
    *imports, blank, call = parsed(cell).body
    assert all(ast.unparse(line) == "from guidance.checks import check" for line in imports), cell.source
    name = ast.unparse(blank).removesuffix(" = ...")
    assert ast.unparse(blank) == f"{name} = ..." and name.isidentifier(), f"not blank:\n{cell.source}"
    number = call.value.args[0].value
    assert ast.unparse(call) == f"check({number!r}, {name})", cell.source
    return number


def test_every_chapter_is_in_a_numbered_part():
    assert sorted(CHAPTERS) == PAGES and len(CHAPTERS) == 18


@pytest.mark.parametrize("page", PAGES)
def test_a_chapter_asks_under_the_number_of_the_exercise(page):
    cells = check_cells(page)
    assert len(cells) >= 2, "at least two exercises of a chapter have a check"
    assert [number_asked(cell) for cell, _ in cells] == [f"{NUMBER_OF[page]}.{position}" for _, position in cells]
    for i, (cell, _) in enumerate(cells):
        asked = find(number_asked(cell))
        assert asked.expects and asked.judge.__doc__
        assert "self-check" in cell.metadata.get("tags", [])
        assert "hide-input" not in cell.metadata.tags and "remove-input" not in cell.metadata.tags
        assert cell.source.startswith("from guidance.checks import check\n\n") == (i == 0), "the first check cell imports check"
        assert max(map(len, cell.source.splitlines())) <= 80


@pytest.mark.parametrize("page", PAGES)
def test_a_blank_chapter_says_what_to_put(page, capsys):
    for cell, _ in check_cells(page):
        number = number_asked(cell)
        exec(compile(parsed(cell), page, "exec"), {"check": check})
        assert capsys.readouterr().out.startswith(f"{number}: no answer yet. Put ")


def test_every_check_has_its_cell():
    find("1.1")
    asked = [number_asked(cell) for page in PAGES for cell, _ in check_cells(page)]
    assert sorted(asked) == sorted(checks.EXERCISES)
