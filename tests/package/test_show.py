"""Figures and sliders: small frames, words for each, and a live control."""
import io
import re

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from PIL import Image  # noqa: E402

from guidance import show  # noqa: E402


def draw(value):
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, value])
    ax.set_ylim(0, 3)
    return figure


def slider(render=draw, **arguments):
    defaults = {"values": [0, 1, 2.5], "label": "strength w", "alt": lambda w: f"A line up to {w:g}.", "name": "line"}
    return show.slider(render, **defaults | arguments)


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        show.style()
        yield
    plt.close("all")


def test_frames_are_small_alike_in_size_and_closed():
    frames = slider().frames
    images = [Image.open(io.BytesIO(frame)) for frame in frames]
    assert len({image.size for image in images}) == 1 and len(set(frames)) == 3
    assert all(len(image.getcolors()) <= 32 for image in images)
    assert max(map(len, frames)) < 15_000
    assert not plt.get_fignums()


def test_colours_survive_in_a_frame():
    image = Image.open(io.BytesIO(slider().frames[2])).convert("RGB")
    assert any(max(abs(np.array(color) - (0, 0x72, 0xB2))) < 8 for _, color in image.getcolors())


def test_html_holds_label_control_value_words_and_no_outside_address():
    page = slider(start=1, value_format="{:.1f}", caption="Moves & draws").to_html()
    assert re.search(r'<label for="slider-line-range">strength w</label>\s*<input type="range" id="slider-line-range"', page)
    assert 'max="2"' in page and 'value="1"' in page and 'aria-live="polite">1.0</output>' in page
    assert 'alt="A line up to 1."' in page and page.count("A line up to 2.5.") == 2  # table and script
    assert "<figcaption>Moves &amp; draws</figcaption>" in page
    assert "http" not in page and page == slider(start=1, value_format="{:.1f}", caption="Moves & draws").to_html()


def test_words_cannot_end_the_script():
    page = slider(alt=lambda w: f"</script><b>{w}").to_html()
    assert page.count("</script>") == 1 and "<b>" not in page


def test_static_bundle_is_html_alone_and_live_bundle_adds_a_widget():
    assert set(slider()._repr_mimebundle_()) == {"text/plain", "text/html"}
    live = slider(live=True)
    assert {"text/html", "application/vnd.jupyter.widget-view+json"} <= set(live._repr_mimebundle_())


def test_the_live_control_draws_values_between_the_presets():
    drawn = []

    def render(value):
        drawn.append(value)
        return draw(value)

    control, picture = slider(render, start=1, live=True).widget().children
    before = bytes(picture.value)
    assert (control.value, control.min, control.max) == (1, 0, 2.5)
    control.value = 1.75
    assert drawn[-1] == 1.75 and bytes(picture.value) != before


@pytest.mark.parametrize("arguments, error, complaint", [
    ({"values": [1]}, ValueError, "values"),
    ({"values": [1, 1]}, ValueError, "values"),
    ({"label": ""}, ValueError, "label"),
    ({"name": "Not a name"}, ValueError, "name"),
    ({"alt": lambda value: ""}, ValueError, "alt"),
    ({"alt": lambda value: None}, ValueError, "alt"),
    ({"alt": lambda value: "x" * 251}, ValueError, "251 characters"),
    ({"start": 2}, ValueError, "start"),
    ({"render": lambda value: None}, TypeError, "Figure"),
])
def test_malformed_sliders_are_refused(arguments, error, complaint):
    with pytest.raises(error, match=complaint):
        slider(**arguments)


def test_scatter_draws_one_marker_per_label_and_refuses_other_shapes():
    _, ax = plt.subplots()
    show.scatter(ax, np.zeros((4, 2)), [0, 1, 1, 0], names={0: "left", 1: "right"}, limit=2)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left", "right"]
    assert ax.get_xlim() == (-2, 2) and len(ax.collections) == 2
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        show.scatter(ax, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="labels"):
        show.scatter(ax, np.zeros((4, 2)), [0])


def test_image_grid_lays_images_out_in_rows():
    _, ax = plt.subplots()
    images = np.full((5, 6), -1.0)
    images[3] = 1.0  # second row, second place
    show.image_grid(ax, images, n_columns=2, shape=(2, 3))
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (3 * 3 - 1, 2 * 4 - 1)
    assert (sheet[3:5, 4:7] == 1).all() and (sheet == 1).sum() == 6
    with pytest.raises(ValueError, match="64"):
        show.image_grid(ax, images)
    with pytest.raises(ValueError, match="n_columns"):
        show.image_grid(ax, images, n_columns=0, shape=(2, 3))


def test_the_first_picture_is_the_one_that_the_control_names():
    import base64

    chosen = slider(start=2.5)
    first = re.search(r'<img src="data:image/png;base64,([^"]+)"', chosen.to_html()).group(1)
    assert base64.b64decode(first) == chosen.frames[2] != chosen.frames[0]


def test_ink_is_dark_and_paper_is_light():
    figure, ax = plt.subplots()
    show.image_grid(ax, np.array([[-1.0] * 32 + [1.0] * 32]), n_columns=1)
    image = ax.images[0]
    paper, ink = image.cmap(image.norm(-1.0))[0], image.cmap(image.norm(1.0))[0]
    assert paper > 0.95 and ink < 0.05
