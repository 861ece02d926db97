"""The site shows the problem sets and none of their answers."""
import html
import re
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHORTEST = 25  # characters of a line that cannot be there by chance


def lines_of(text):
    return {line.strip(" #") for line in text.splitlines() if len(line.strip(" #")) >= SHORTEST}


def secrets(student):
    """The lines of the sources that a student's notebook, the chapters and the package do not have."""
    sources = set().union(*(lines_of(path.read_text(encoding="utf-8")) for path in (ROOT / "book" / "homework" / "source").glob("ps*.py")))
    public = [*ROOT.glob("book/part*/*.ipynb"), *ROOT.glob("guidance/**/*.py"), *student]
    known = "\n".join(path.read_text(encoding="utf-8") for path in public).replace('\\"', '"')
    return {line for line in sources if line not in known}


def texts(site):
    """(name, text without markup) of every file of the site that can be read, and of what is in its zips."""
    for path in site.rglob("*"):
        if path.suffix in (".html", ".js", ".json", ".ipynb", ".md", ".txt", ".py", ".inv"):
            text = path.read_text(encoding="utf-8", errors="replace")
            yield path, html.unescape(re.sub(r"<[^>]*>", "", text)) if path.suffix == ".html" else text.replace('\\"', '"')
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as zipped:
                for member in zipped.namelist():
                    yield path / member, zipped.read(member).decode().replace('\\"', '"')


def test_no_solution_and_no_check_is_in_the_site(site):
    secret = secrets((ROOT / "book" / "homework").glob("ps*.ipynb"))
    assert len(secret) > 300
    found = {(str(path), line) for path, text in texts(site) for line in secret if line in text}
    assert not found, sorted(found)[:5]


def test_the_zip_holds_the_five_notebooks(site):
    (path,) = site.rglob("problem-sets.zip")
    with zipfile.ZipFile(path) as zipped:
        assert zipped.namelist() == [f"problem-sets/ps{number}.ipynb" for number in range(1, 6)]
        for name in zipped.namelist():
            assert zipped.read(name) == (site / "_sources" / "book" / "homework" / Path(name).name).read_bytes()
