"""Builds: the whole book once, and small books made to fail."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browsing import listen, settled
from filelock import FileLock

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: opens the built site in a real browser")


def build(folder, *arguments):
    """Build the book in a folder with warnings as errors; returns the status and everything it printed."""
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "-W", "--keep-going", *arguments, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    return done.returncode, done.stdout


class SmallBook:
    """A copy of `minibook` under this project's own settings and extensions, with a chapter to edit."""

    def __init__(self, folder):
        self.folder, self.chapter = folder, folder / "book" / "chapter.ipynb"
        shutil.copytree(ROOT / "tests" / "book" / "minibook", folder)
        shutil.copytree(ROOT / "_ext", folder / "_ext")
        shutil.copytree(ROOT / "assets", folder / "assets")
        for name in ("_config.yml", "book/references.bib", "book/ledger.md", "book/bibliography.md"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "guidance").mkdir()
        (folder / "guidance" / "stand_in.py").write_text("# the package, as far as the fingerprint goes\n")
        (folder / "requirements.lock").write_text("nothing==1\n")

    def build(self):
        return build(self.folder)

    def add(self, source, kind="code"):
        """Append a cell to the chapter."""
        notebook = nbformat.read(self.chapter, as_version=4)
        notebook.cells.append(getattr(nbformat.v4, f"new_{kind}_cell")(source))
        nbformat.write(notebook, self.chapter)

    def page(self, name):
        return (self.folder / "_build" / "html" / "book" / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture
def small_book(tmp_path):
    return SmallBook(tmp_path / "small")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the whole built site, built once a run by whichever process comes first.

    Every page is read anew; notebooks come from the cache where they are fresh.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each process has a folder of its own in the one of the run
        shared = shared.parent
    result = shared / "site.log"
    with FileLock(shared / "site.lock"):
        if not result.exists():
            result.write_text("{}\n{}".format(*build(ROOT, "--all")), encoding="utf-8")
    status, _, log = result.read_text(encoding="utf-8").partition("\n")
    assert status == "0", log
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; without one the test is skipped, or fails where CI is set."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        message = "no Chromium or Chrome on this machine: install one to run the browser tests"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a file without a network, its mathematics typeset; at the end, nothing may have failed or been asked from outside."""
    complaints, contexts = [], []

    def open_page(path, **settings):
        contexts.append(browser.new_context(offline=True, **settings))
        page = contexts[-1].new_page()
        listen(page, complaints)
        page.goto(path.as_uri())
        return settled(page)

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
