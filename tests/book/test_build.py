"""The build stops at what must stop it, executes what is stale, and only that. Each test builds a small book."""
import re

import pytest


def test_a_good_book_builds_and_nothing_executes_twice(small_book):
    status, log = small_book.build()
    assert status == 0, log
    assert "executing 1 notebook" in log
    status, log = small_book.build()
    assert status == 0 and "executing" not in log, log
    assert 'href="chapter.html#claim-mean-below-max"' in small_book.page("ledger")
    assert 'id="claim-mean-below-max"' in small_book.page("chapter")
    small_book.add("Only words.", kind="markdown")
    status, log = small_book.build()
    assert status == 0 and "executing" not in log and "Only words." in small_book.page("chapter"), log


def test_a_change_in_the_package_or_the_lock_executes_again(small_book):
    small_book.build()
    for changed in ("guidance/stand_in.py", "requirements.lock"):
        path = small_book.folder / changed
        path.write_text(path.read_text() + "# changed\n")
        status, log = small_book.build()
        assert status == 0 and "executing 1 notebook" in log, log


def test_the_ledger_page_follows_the_notebooks(small_book):
    small_book.build()
    assert "an-added-claim" not in small_book.page("ledger")
    small_book.add(claim("an-added-claim", 1, 2))
    status, log = small_book.build()
    assert status == 0 and "an-added-claim" in small_book.page("ledger"), log


ADDRESS = "https://github.com/somebody/course"
BUTTONS = {
    "chapter": [ADDRESS, f"{ADDRESS}/blob/main/book/chapter.ipynb?plain=1", f"{ADDRESS}/issues/new?title=Issue%20on%20page%20%2Fbook/chapter.html",
                "https://mybinder.org/v2/gh/somebody/course/main?urlpath=lab/tree/book/chapter.ipynb",
                "https://colab.research.google.com/github/somebody/course/blob/main/book/chapter.ipynb"],
    "index": [ADDRESS, f"{ADDRESS}/blob/main/book/index.md?plain=1", f"{ADDRESS}/issues/new?title=Issue%20on%20page%20%2Fbook/index.html"],
}


def test_one_address_turns_on_the_buttons(small_book):
    """Source, issue and launch buttons lead to this page's file on the branch; without an address there are none."""
    config = small_book.folder / "_config.yml"
    for address in ("", ADDRESS):
        config.write_text(config.read_text().replace('url: ""', f'url: "{address}"', 1))
        status, log = small_book.build()
        assert status == 0, log
        for name, expected in BUTTONS.items():
            links = [link.partition("&")[0] for link in re.findall(r'<a href="(https?://[^"]+)"[^>]*class="btn', small_book.page(name), re.S)]
            assert sorted(links) == (sorted(expected) if address else []), f"{name}: {links}"


def claim(name, left, right):
    return (f'ledger.claim("{name}", statement="Small is less than large.", source="ours", instance="two numbers",\n'
            f'             left={left}, relation="<", right={right})')


RECORD_OF_A_FAILURE = """
from dataclasses import asdict, replace
record = ledger.check("claim", "forged", "s", "ours", "i", 1, "<", 2)
display({ledger.MIME: asdict(replace(record, left=3.0, holds=False)), "text/plain": "forged"}, raw=True)
"""

STOPS = {
    "failing cell": (["1 / 0"], ["ZeroDivisionError: division by zero"]),
    "failing claim": ([claim("large-below-small", 2, 1)], ["left < right should hold and does not"]),
    "records": ([RECORD_OF_A_FAILURE, claim("mean-below-max", 1, 2), claim("one-below-two", 1, 2)[:-1] + ', breaks="missing")'],
                ["'forged' is recorded but did not come out", "'mean-below-max' is recorded 2 times", "refers to 'missing'"]),
}


@pytest.mark.parametrize("cells, complaints", STOPS.values(), ids=STOPS)
def test_a_broken_cell_or_claim_stops_the_build(small_book, cells, complaints):
    for cell in cells:
        small_book.add(cell)
    status, log = small_book.build()
    assert status != 0 and not [text for text in complaints if text not in log], log


def test_every_warning_stops_the_build_each_time(small_book):
    small_book.add("import warnings; warnings.warn('an unexpected warning')")
    small_book.add("[a](missing.ipynb) [b](index.md#missing-anchor) {numref}`fig-missing` {cite:t}`missing2020`", "markdown")
    for attempt in ("first", "second"):  # an incremental build must not forget what was wrong
        status, log = small_book.build()
        warnings = "\n".join(line for line in log.splitlines() if "WARNING" in line)
        for complaint in ("stderr was found", "missing.ipynb", "missing-anchor", "fig-missing", "missing2020"):
            assert complaint in warnings, f"{attempt} build does not warn of {complaint}\n{log}"
        assert status != 0, log
