"""The built site: figures with words, nothing from outside, and pages that work in a browser without a network."""
import gzip
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_cache import get_cache

ROOT = Path(__file__).parents[2]
LOADED = ("stylesheet", "icon", "preload")
SEARCHES = {"Tweedie": "part1/scores", "split": "part2/strong", "tilted": "part3/tilt"}  # words, and a page that must be found
FIGURES = ("image/png", "image/svg+xml", "image/jpeg")


def pages(site):
    """The pages that are read: those of the contents."""
    return sorted((site / "book").rglob("*.html"))


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
        if ".ipynb_checkpoints" not in path.parts:
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
    for path in pages(site):
        tags = Page(path).tags
        for tag, attributes in tags:
            if tag == "img":
                alt = attributes.get("alt") or ""
                assert alt.strip() and not re.search(r"\.(png|svg|jpe?g)$", alt), f"{path}: {str(attributes)[:300]}"
        ids = [attributes["id"] for _, attributes in tags if attributes.get("id")]
        repeated = {name for name in ids if ids.count(name) > 1}
        assert not repeated, f"{path}: {repeated}"


def test_a_page_loads_nothing_from_outside(site):
    for path in pages(site):
        for tag, attributes in Page(path).tags:
            loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None) or ""
            assert not re.match(r"(https?:)?//", loaded), f"{path}: <{tag}> loads {loaded}"
        assert "widget-view+json" not in path.read_text(encoding="utf-8"), f"{path}: a widget that nothing draws"


@pytest.fixture
def opened(site, browser):
    """Opens a page without a network; at the end, nothing may have failed or been asked from outside."""
    complaints, contexts = [], []

    def listen(page):
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))

    def open_page(path, **settings):
        contexts.append(browser.new_context(offline=True, **settings))
        page = contexts[-1].new_page()
        listen(page)
        page.goto(path.as_uri())
        page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => true) : true")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


WITHOUT_CODE = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  copy.querySelectorAll("pre, code, script, style, mjx-container").forEach(node => node.remove());
  return copy.textContent;
}"""


CONTRASTS = """() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const part = color.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const behind = node => {
    if (!node) return [255, 255, 255];
    const [r, g, b, opacity = 1] = parts(getComputedStyle(node).backgroundColor);
    return opacity === 1 ? [r, g, b] : behind(node.parentElement).map((v, i) => (1 - opacity) * v + opacity * [r, g, b][i]);
  };
  const read = ".claim, .claim code, .slider label, .slider output, .slider summary, figcaption, .caption-text, div.proof a";
  return [...document.querySelectorAll(read)].map(node => {
    const pair = [light(parts(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), node.outerHTML.slice(0, 120)];
  });
}"""


def test_every_page_in_a_browser(site, opened):
    """Every page, on a desktop and on a phone: typeset, readable in both themes, narrow enough for a phone, its sliders alive."""
    moved = 0
    (site.parent / "screenshots").mkdir(exist_ok=True)
    for path in pages(site):
        page = opened(path, color_scheme="light", viewport={"width": 1280, "height": 900})
        typeset(page, path)
        moved += move_sliders(page, path)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
            readable(page, path, theme)
            photograph(page, site, path, theme)
        page.context.close()
        page = opened(path, color_scheme="light", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{path}: scrolls sideways on a phone"
        photograph(page, site, path, "phone")
        page.context.close()
    assert moved


def typeset(page, path):
    raw = re.search(r"\\[(\[]|\\[a-z]{2,}|\$\$|\$[^$\n]{1,60}\$", page.evaluate(WITHOUT_CODE))
    assert not raw, f"{path}: raw TeX: {raw[0]}"
    assert not page.locator("mjx-merror").count(), f"{path}: MathJax reports an error"
    if 'class="math' in path.read_text(encoding="utf-8"):
        assert page.locator("mjx-container").count(), f"{path}: no mathematics was typeset"


def readable(page, path, theme):
    faint = [(ratio, html) for ratio, html in page.evaluate(CONTRASTS) if ratio < 4.5]
    assert not faint, f"{path} in the {theme} theme: {faint[0]}"


def photograph(page, site, path, name):
    """The first screen, for eyes: kept by the test workflow."""
    stem = "-".join(path.relative_to(site / "book").with_suffix("").parts)
    page.screenshot(path=site.parent / "screenshots" / f"{stem}-{name}.png")


def move_sliders(page, path):
    """Moves every slider by keys and by mouse: frame, words and value must follow. Returns how many there are."""
    sliders = page.locator("figure.slider").all()
    for slider in sliders:
        def state():
            image = slider.locator("img")
            return image.get_attribute("src"), image.get_attribute("alt"), slider.locator("output").inner_text()

        control = slider.get_by_role("slider", name=slider.locator("label").inner_text())
        control.scroll_into_view_if_needed()
        control.press("Home")
        seen = [state()]
        control.press("ArrowRight")
        seen.append(state())
        box = control.bounding_box()
        page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        seen.append(state())
        for what, values in zip(("frame", "alt text", "value"), zip(*seen)):
            assert len(set(values)) == len(control.evaluate("r => r.max > 1 ? [0, 1, 2] : [0, 1]")), (
                f"{path}: the {what} of {control.get_attribute('id')} does not follow the slider")
        assert control.get_attribute("aria-valuetext") == seen[-1][2]
    return len(sliders)


def test_the_theme_button_and_the_search(site, opened):
    page = opened(site / "book" / "part1" / "noising.html", color_scheme="light", viewport={"width": 1280, "height": 900})
    themes = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}
    page = opened(site / "search.html")
    for words, where in SEARCHES.items():
        page.goto((site / "search.html").as_uri() + "?q=" + words)
        page.wait_for_selector("#search-results ul.search li a")
        links = [link.get_attribute("href") for link in page.locator("#search-results ul.search li a").all()]
        assert any(where in link for link in links), f"searching {words!r} finds {links}"


def test_links_and_their_anchors_exist(site):
    ids = {}
    for path in pages(site):
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
    for path in pages(site):
        loaded = {path}
        for tag, attributes in Page(path).tags:
            link = attributes.get("src") or (attributes.get("href") if tag == "link" and attributes.get("rel") in LOADED else "") or ""
            if link and not link.startswith("data:"):
                loaded.add((path.parent / link.partition("?")[0]).resolve())
        fonts = [*site.rglob("mathjax/**/*.woff"), *site.rglob("fa-solid-900.woff2")]
        weights[path.name] = sum(len(gzip.compress(file.read_bytes())) for file in [*loaded, *fonts])
        assert "fontawesome.js" not in path.read_text(encoding="utf-8") and "embed-amd" not in path.read_text(encoding="utf-8")
    assert np.median(list(weights.values())) < 1.5e6, weights


def test_a_downloaded_notebook_runs_anywhere(site, tmp_path):
    shutil.copy(site / "_sources" / "book" / "notation.ipynb", tmp_path)
    done = subprocess.run([sys.executable, "-m", "pytest", "--nbmake", "-q", "-p", "no:cacheprovider", "notation.ipynb"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
