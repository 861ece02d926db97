"""Every chapter in a real browser, without a network, from the folder that the build leaves."""
import pytest
from browsing import CHAPTERS, visit

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter(name, site, opened):
    visit(name, site, opened)


def test_there_are_chapters_with_sliders(site):
    with_sliders = [name for name in CHAPTERS if '<figure class="slider"' in (site / f"{name}.html").read_text(encoding="utf-8")]
    assert len(CHAPTERS) >= 18 and len(with_sliders) >= 10
