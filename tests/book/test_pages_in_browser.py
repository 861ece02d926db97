"""Every page that is no chapter in a real browser, and what a reader does with the site: theme, search, keyboard, paper, another host."""
import functools
import http.server
import threading

import pytest
from browsing import CONTENTS, DESKTOP, GENERATED, OTHERS, PHONE, built, listen, settled, turn, visit

pytestmark = pytest.mark.browser
CHAPTER = "book/part1/guidance.html"  # has a slider, a solution, a theorem, figures and long code
SEARCHES = {"Tweedie": "part1/scores", "split": "part2/strong", "tilted": "part3/tilt"}  # words, and a page that must be found
PAPER = 688  # pixels across A4 within its margins


@pytest.mark.parametrize("name", OTHERS)
def test_a_page(name, site, opened):
    visit(name, site, opened)


def test_no_page_is_left_out(site):
    assert {path.relative_to(site).with_suffix("").as_posix() for path in built(site)} == {*CONTENTS, *GENERATED}


@pytest.mark.parametrize("name", [CHAPTER, "book/homework/teachers.html", "book/ledger.html"])
def test_a_real_phone(name, site, opened):
    """Every page is measured on a narrow screen; these also as a phone shows them, with touch and its own idea of a viewport."""
    page = opened(site / name, color_scheme="light", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and page.evaluate("innerWidth") == 390


def test_the_theme_button(site, opened):
    page, themes = opened(site / CHAPTER, color_scheme="light", **DESKTOP), set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


def test_the_search(site, opened):
    page = opened(site / "search.html")
    for words, where in SEARCHES.items():
        page.goto((site / "search.html").as_uri() + "?q=" + words)
        page.wait_for_selector("#search-results ul.search li a")
        links = [link.get_attribute("href") for link in page.locator("#search-results ul.search li a").all()]
        assert any(where in link for link in links), f"searching {words!r} finds {links}"


STOP = """() => {
  const node = document.activeElement, style = getComputedStyle(node);
  if (node === document.body) return null;
  node.dataset.stops = Number(node.dataset.stops || 0) + 1;
  const box = node.getBoundingClientRect();
  return {
    html: node.outerHTML.slice(0, 160), again: node.dataset.stops > 1,
    seen: style.opacity > 0.9 && box.width > 0 && (style.outlineStyle !== "none" || style.boxShadow !== "none"),
  };
}"""


def test_the_keyboard_reaches_everything_and_shows_where_it_is(site, opened):
    page = opened(site / CHAPTER, color_scheme="light", **DESKTOP)
    page.add_style_tag(content="* { transition: none !important; }")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    assert page.locator(".skip-link a").bounding_box()["y"] >= 0, "the skip link stays out of sight"
    stops = [page.evaluate(STOP)]
    while (page.keyboard.press("Tab") or True) and (stop := page.evaluate(STOP)) and not stop["again"]:
        stops.append(stop)
    assert stop is None, f"the keyboard is caught at {stop}"
    hidden = [stop["html"] for stop in stops if not stop["seen"]]
    assert not hidden, f"the focus cannot be seen on {hidden[:5]}"
    for what in ("main a[href]", "button.copybtn", "button.toggle-button", "figure.slider input", "figure.slider summary"):
        there = page.locator(f"{what}:visible")
        missed = there.evaluate_all("nodes => nodes.filter(node => !node.dataset.stops && node.tabIndex >= 0).map(node => node.outerHTML.slice(0, 160))")
        assert there.count() and not missed, f"Tab does not reach {what}: {missed[:3]}"


def test_keys_skip_unfold_copy_and_search(site, opened):
    page = opened(site / CHAPTER, color_scheme="light", **DESKTOP)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)"), "the skip link does not skip"
    solution = page.locator(".admonition.toggle").last
    for hidden in (True, False, True):
        assert solution.evaluate("node => node.classList.contains('toggle-hidden')") is hidden
        assert solution.locator("button.toggle-button").get_attribute("aria-expanded") == str(not hidden).lower()
        solution.locator("button.toggle-button").press("Enter")
    copy = page.locator("button.copybtn").first
    copy.press("Enter")
    page.wait_for_selector("button.copybtn.success")
    page.keyboard.press("Control+k")
    page.wait_for_selector("#pst-search-dialog[open]")
    page.keyboard.press("Escape")
    assert not page.locator("#pst-search-dialog[open]").count()
    page.keyboard.press("Control+k")
    page.keyboard.type("Tweedie")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li a")


GONE = (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".prev-next-footer", "figure.slider input", "button:not(:disabled)")
CUT = """width => [...document.querySelectorAll("main pre, main figure, main img, main table, main div.math")].filter(node => {
  const box = node.getBoundingClientRect();
  return box.width && (box.right > width + 1 || node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX !== "visible");
}).map(node => node.outerHTML.slice(0, 160))"""


def test_paper(site, opened):
    page = opened(site / CHAPTER, color_scheme="dark", **DESKTOP)
    turn(page, "dark")
    page.add_style_tag(content="* { transition: none !important; }")
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    for what in GONE:
        assert page.locator(what).count() and not page.locator(f"{what}:visible").count(), f"{what} is printed"
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.locator(".toggle-hidden").count(), "no folded solution to look at"
    folded = page.locator(".toggle-hidden > :not(.admonition-title)").evaluate_all(
        "nodes => nodes.filter(node => !node.checkVisibility({opacityProperty: true, visibilityProperty: true}) || node.offsetHeight < 10).length")
    assert not folded, "a folded solution is lost on paper"
    assert not page.evaluate(CUT, PAPER), "cut off on paper"
    assert page.evaluate("getComputedStyle(document.querySelector('pre')).whiteSpace") == "pre-wrap"
    page.emulate_media(media="screen", color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert page.pdf(format="A4").count(b"/Type /Page\n") >= 5


@pytest.fixture
def host(site):
    """The site in a folder of a plain web server, as on a host that serves several."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
    server.shutdown()
    server.server_close()


def test_a_folder_of_another_host(host, browser):
    complaints, page = [], browser.new_page(**DESKTOP)
    listen(page, complaints, home=[host])
    page.goto(host)
    page.wait_for_url("**/book/index.html")
    page.locator(".bd-sidebar-primary a[href*='part1/guidance']").click()
    page.wait_for_url(f"**/{CHAPTER}")
    assert settled(page).locator("mjx-container").count()
    page.goto(host + "search.html?q=Tweedie")
    page.locator("#search-results ul.search li a[href*='part1/scores']").first.click()
    page.wait_for_url("**/part1/scores.html*")
    page.close()
    assert not complaints
