"""What is committed: notebooks without outputs, and lists of packages that agree with each other."""
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path for path in ROOT.glob("book/**/*.ipynb") if path.parent.name != "homework") + sorted(ROOT.glob("tests/book/minibook/**/*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_no_outputs_are_committed(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"clear the outputs:\n{cell.source}"


def test_any_python_kernel_runs_it(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_cells_are_short(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 30, f"more than 30 lines:\n{cell.source}"


def test_every_page_is_in_the_contents():
    contents = (ROOT / "_toc.yml").read_text()
    pages = [path for path in ROOT.glob("book/**/*") if path.suffix in (".ipynb", ".md") and ".ipynb_checkpoints" not in path.parts]
    missing = [page for page in pages
               if not re.search(rf"\b{re.escape(page.relative_to(ROOT).with_suffix('').as_posix())}\s*$", contents, re.M)]
    assert not missing


def requirements(lines):
    return {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}


def needed():
    extras = PROJECT["optional-dependencies"]
    return requirements([*PROJECT["dependencies"], *extras["book"], *extras["test"]])


def test_environment_yml_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert by_pip[0] == "-e ."
    listed = requirements([line for line in environment if isinstance(line, str)] + by_pip[1:])
    assert str(listed.pop("python")) == PROJECT["requires-python"]
    listed.pop("pip")
    assert listed == needed()


def test_lock_pins_everything_exactly_and_names_no_place():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines)
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    for name, allowed in needed().items():
        assert name in pins and allowed.contains(pins[name]), f"{name}{allowed} is not met by the lock"
    assert pins["torch"] == "2.13.0" and pins["jupyter-book"] == "1.0.4.post1"


def test_workflows_and_ci_call_the_two_commands():
    called = {path.name: re.findall(r"run: (make \w+)", path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")}
    assert called == {"test.yml": ["make test"], "publish.yml": ["make book"]}
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make test"


def test_import_is_quick_and_light():
    code = ("import sys, time; start = time.perf_counter(); import guidance; took = time.perf_counter() - start; "
            "heavy = {'torch', 'matplotlib', 'scipy.stats', 'sklearn', 'IPython', 'ipywidgets'} & set(sys.modules); "
            "assert not heavy, heavy; assert took < 0.2, took")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_of_the_package_resolves():
    import guidance

    assert not [name for name in guidance.__all__ if getattr(guidance, name, None) is None]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        guidance.nothing
    assert guidance.__version__ == PROJECT["version"]
