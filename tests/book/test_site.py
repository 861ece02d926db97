"""The files of the built site: figures with words, nothing from outside, living links, little weight."""
import gzip
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import numpy as np
from browsing import CHAPTERS, ROOT, built
from jupyter_cache import get_cache

LOADED = ("stylesheet", "icon", "preload")
LOADS = ("src", "srcset", "poster", "data", "xlink:href", "action")  # attributes that a browser follows by itself, or when a form is sent
OUTSIDE = re.compile(r"(?:^|[,\s])\s*(?:https?|wss?|ftp):|(?:^|[,\s])//", re.I)
STYLED = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^)"']*)""", re.I)
FIGURES = ("image/png", "image/svg+xml", "image/jpeg")


class Page(HTMLParser):
    """Every start tag of a page, with its attributes."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def executed_cells(site):
    """(notebook, cell) for every code cell of the book, with the outputs of this build."""
    cache = get_cache(site.parent / ".jupyter_cache")
    for path in sorted(ROOT.glob("book/**/*.ipynb")):
        if not {".ipynb_checkpoints", "homework"} & set(path.parts):  # problem sets are not executed
            _, notebook = cache.merge_match_into_notebook(nbformat.read(path, as_version=4))
            yield from ((path, cell) for cell in notebook.cells if cell.cell_type == "code")


def test_every_figure_has_a_caption_a_name_and_words(site):
    for path, cell in executed_cells(site):
        data = [output.get("data", {}) for output in cell.outputs]
        images = sum(any(mime in entry for mime in FIGURES) for entry in data)
        sliders = sum('<figure class="slider"' in entry.get("text/html", "") for entry in data)
        if images or sliders:
            where, settings = f"{path.name}:\n{cell.source}", cell.metadata.get("mystnb", {})
            assert settings.get("figure", {}).get("caption") and settings["figure"].get("name"), f"no caption: {where}"
            assert len(cell.outputs) == 1, f"a figure cell displays the figure and nothing else: {where}"
        if images:
            assert 0 < len(settings.get("image", {}).get("alt", "")) <= 250, f"no alt text of 1 to 250 characters: {where}"


def test_images_and_ids(site):
    for path in built(site):
        tags = Page(path).tags
        for tag, attributes in tags:
            if tag == "img":
                alt = attributes.get("alt") or ""
                assert alt.strip() and not re.search(r"\.(png|svg|jpe?g)$", alt), f"{path}: {str(attributes)[:300]}"
            if tag == "svg" and attributes.get("aria-hidden") != "true":
                assert attributes.get("aria-label"), f"{path}: a drawing without words: {attributes}"
        ids = [attributes["id"] for _, attributes in tags if attributes.get("id")]
        repeated = {name for name in ids if ids.count(name) > 1}
        assert not repeated, f"{path}: {repeated}"


def test_a_page_loads_nothing_from_outside(site):
    """What the browser tests cannot see, because no test makes a page ask for it, they do not find: here the files are read."""
    for path in built(site):
        text = path.read_text(encoding="utf-8")
        for tag, attributes in Page(path).tags:
            names = ("href", *LOADS) if tag not in ("a", "area") else ("ping",)
            for loaded in (attributes[name] for name in names if attributes.get(name)):
                assert loaded.startswith("data:") or not OUTSIDE.search(loaded), f"{path}: <{tag}> loads {loaded[:200]}"
        assert not STYLED.search(text), f"{path}: a style loads {STYLED.search(text)[1]}"
        assert "widget-view+json" not in text, f"{path}: a widget that nothing draws"
    for path in (site / "_static").rglob("*.css"):
        outside = STYLED.search(path.read_text(encoding="utf-8"))
        assert not outside, f"{path} loads {outside[1]}"


def test_a_page_says_what_it_is(site):
    titles = set()
    for path in built(site):
        text = path.read_text(encoding="utf-8")
        titles.add(re.search(r"<title>(.+?)</title>", text)[1])
        assert '<html lang="en"' in text and re.search(r'<link rel="icon" href="[./]*_static/favicon.svg"', text), path
        assert len(re.findall(r'<meta name="description" content="[^"]{20,}"', text)) == 1, f"{path}: no description"
    assert len(titles) == len(built(site)), "two pages have the same title"
    for name in CHAPTERS:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        for what in (f'_sources/{name}.ipynb"', 'rel="prev"', 'rel="next"', 'class="api-links"', "api/"):
            assert what in text, f"{name}: no {what}"


def test_links_and_their_anchors_exist(site):
    ids = {}
    for path in built(site):
        for _, attributes in Page(path).tags:
            link = (attributes.get("href") or attributes.get("src") or "").partition("?")[0]
            if not link or re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), f"{path}: {link} leads nowhere"
            if anchor and target.suffix == ".html":
                if target not in ids:
                    ids[target] = {a["id"] for _, a in Page(target).tags if a.get("id")}
                assert anchor in ids[target], f"{path}: {link} has no such place"


def test_a_page_is_light(site):
    """Gzipped, with everything that it asks for; the mathematics fonts, which depend on the page, count as if all were asked for."""
    weights = {}
    for path in built(site):
        name, loaded = path.relative_to(site).with_suffix("").as_posix(), {path}
        for tag, attributes in Page(path).tags:
            link = attributes.get("src") or (attributes.get("href") if tag == "link" and attributes.get("rel") in LOADED else "") or ""
            if link and not link.startswith("data:"):
                loaded.add((path.parent / link.partition("?")[0]).resolve())
        fonts = [*site.rglob("mathjax/**/*.woff"), *site.rglob("fa-solid-900.woff2")]
        weights[name] = sum(len(gzip.compress(file.read_bytes())) for file in [*loaded, *fonts])
        assert "fontawesome.js" not in path.read_text(encoding="utf-8") and "embed-amd" not in path.read_text(encoding="utf-8")
    assert np.median([weights[name] for name in CHAPTERS]) < 1.5e6, weights


def test_a_downloaded_notebook_runs_anywhere(site, tmp_path):
    shutil.copy(site / "_sources" / "book" / "notation.ipynb", tmp_path)
    done = subprocess.run([sys.executable, "-m", "pytest", "--nbmake", "-q", "-p", "no:cacheprovider", "notation.ipynb"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
