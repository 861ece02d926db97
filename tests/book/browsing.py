"""What the browser tests share: the pages of the site, a tab that notices every complaint, and what each page must pass."""
import json
import re
from pathlib import Path

import axe_playwright_python
import yaml

ROOT = Path(__file__).parents[2]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
GENERATED = ["genindex", "prf-prf", "py-modindex", "search"]  # pages that the build writes beside those of the contents
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def documents(entry):
    """Every page that a part of the contents names, without its suffix."""
    yield from (entry[key] for key in ("root", "file") if key in entry)
    for key in ("parts", "chapters", "sections"):
        for below in entry.get(key, ()):
            yield from documents(below)


CONTENTS = list(documents(yaml.safe_load((ROOT / "_toc.yml").read_text())))
CHAPTERS = [name for name in CONTENTS if re.match(r"book/part\d", name)]
OTHERS = [name for name in CONTENTS if name not in CHAPTERS] + GENERATED


def built(site):
    """Every page of the built site but the first, which only leads on to the book."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts and path != site / "index.html")


def listen(page, complaints, home=("file:",)):
    """Collect errors of the page, failed requests, and requests for anything that is not at home."""
    def answered(response):
        if response.status >= 400:
            complaints.append(f"{response.status}: {response.url[:200]}")

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # that is a page left before all of it had come
            complaints.append(f"failed: {request.url[:200]}")

    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", failed)
    page.on("request", lambda request: request.url.startswith((*home, "data:", "blob:")) or complaints.append(f"asks for {request.url[:200]}"))
    page.on("response", answered)


def settled(page):
    """The page, once its mathematics is typeset."""
    page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => true) : true")
    return page


def turn(page, theme):
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)


WITHOUT_CODE = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  copy.querySelectorAll("pre, code, script, style, mjx-container").forEach(node => node.remove());
  return copy.textContent;
}"""


def typeset(page):
    raw = re.search(r"\\[(\[]|\\[a-z]{2,}|\$\$|\$[^$\n]{1,60}\$", page.evaluate(WITHOUT_CODE))
    assert not raw, f"raw TeX: {raw[0]}"
    assert not page.locator("mjx-merror").count(), "MathJax reports an error"
    if page.locator(".math").count():
        assert page.locator("mjx-container").count(), "no mathematics was typeset"


# What is folded away is judged as well, and colours are not measured while they fade.
UNFOLD = """() => {
  const style = document.createElement("style");
  style.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
  document.head.append(style);
  const folded = document.querySelectorAll("main details:not([open]) > summary, .toggle-hidden > .admonition-title");
  folded.forEach(node => node.click());
  // After a while the theme lets the keyboard reach what scrolls now; if it does not, axe says so.
  const late = performance.now() + 3000;
  const unreached = () => [...document.querySelectorAll("main pre[tabindex='-1']")].some(node => node.scrollWidth > node.clientWidth);
  return new Promise(done => {
    const look = () => unreached() && performance.now() < late ? setTimeout(look, 50) : done();
    look();
  });
}"""

# A token of code has the colours of its class and a formula those of its text: one token of each kind and the first ten formulas of a
# page stand for the others, and the page is judged in a third of the time.
FEWER = """() => {
  const seen = new Set();
  document.querySelectorAll("pre span[class]:not(:has(*))").forEach(node => {
    const kind = node.closest("div[class*=highlight-]")?.className + " " + node.className;
    seen.has(kind) ? node.replaceWith(...node.childNodes) : seen.add(kind);
  });
  [...document.querySelectorAll("mjx-container")].slice(10).forEach(node => node.replaceChildren("x"));
}"""


def accessible(page, kind, **options):
    """No serious or critical violation of axe's rules: of all of them, or of those that the options choose."""
    # No result is wanted for what passes; style sheets of other origins, which axe would fetch, do not exist.
    found = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], "preload": False, **options})["violations"]
    found = [(rule["id"], len(rule["nodes"]), rule["nodes"][0]["html"][:300], rule["nodes"][0]["failureSummary"])
             for rule in found if rule["impact"] in ("serious", "critical")]
    assert not found, f"{kind}: {found}"


def slide(page):
    """Move every slider over all its frames by keys, and to its end by mouse: frame, words and value must follow. Returns how many there are."""
    assert not page.locator("input[type=range]:not(figure.slider input)").count(), "a slider that is not made by show.slider"
    sliders = page.locator("figure.slider").all()
    for slider in sliders:
        control = slider.get_by_role("slider", name=slider.locator("label").inner_text())
        assert control.count() == 1, f"{slider.get_attribute('id')}: the slider is not labelled, or hidden"
        frames, words = told(slider)
        control.press("Home")
        for i, expected in enumerate(words):
            right(slider, control, expected, frames[i])
            control.press("ArrowRight")
        control.press("Home")
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        right(slider, control, words[-1], frames[-1])
    return len(sliders)


def told(slider):
    """The frames that the page carries, all different, and for each the value and the words of the table below the slider."""
    frames = json.loads(re.search(r"^const data = (\{.*\});$", slider.locator("script").text_content(), re.M)[1])["frames"]
    rows = slider.locator("tbody tr").evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")
    assert len(set(frames)) == len(frames) == len(rows) > 1, f"{slider.get_attribute('id')}: frames repeat, or are not all told in words"
    assert all(len(alt) >= 20 for _, alt in rows), f"{slider.get_attribute('id')}: words that say too little: {rows}"
    return frames, rows


def right(slider, control, expected, frame):
    shown = slider.evaluate("""figure => {
      const image = figure.querySelector("img");
      return [figure.querySelector("output").textContent, image.alt, image.src, image.getBoundingClientRect().width > 0];
    }""")
    name = slider.get_attribute("id")
    assert shown[:2] == expected, f"{name}: value or words do not follow: {shown[:2]} and not {expected}"
    assert shown[2] == frame and shown[3], f"{name}: at {expected[0]} the frame does not follow the slider"
    assert control.get_attribute("aria-valuetext") == expected[0], f"{name}: the value is not read out"


def photograph(page, site, name, kind):
    """The first screen, for eyes: kept by the test workflow."""
    folder = site.parent / "screenshots"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name.removeprefix('book/').replace('/', '-')}-{kind}.png", animations="disabled")


def visit(name, site, opened):
    """A page on a desktop in both themes, and as narrow as on a phone. Returns how many sliders it has."""
    page = opened(site / f"{name}.html", color_scheme="light", **DESKTOP)
    typeset(page)
    moved = slide(page)
    page.evaluate("scrollTo(0, 0)")
    photograph(page, site, name, "light")
    turn(page, "dark")
    photograph(page, site, name, "dark")
    turn(page, "light")
    narrow(page)
    photograph(page, site, name, "phone")
    page.set_viewport_size(DESKTOP["viewport"])
    page.evaluate(AXE)
    page.evaluate(UNFOLD)
    page.evaluate(FEWER)
    accessible(page, "in the light theme")
    turn(page, "dark")
    accessible(page, "in the dark theme", runOnly=["color-contrast"])  # the theme changes nothing but colours
    page.context.close()
    return moved


def narrow(page):
    """The page on a screen as narrow as a phone's: its text does not scroll sideways."""
    page.set_viewport_size(PHONE["viewport"])
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"], "scrolls sideways on a phone"
