"""Figures and sliders in one style. matplotlib, Pillow and ipywidgets are imported when used."""
from __future__ import annotations

import base64
import html
import io
import json
import os
import re
from dataclasses import dataclass

import numpy as np

# Okabe and Ito's palette, told apart under every common colour blindness; the yellow is left out, too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
DPI = 110
ALT_LIMIT = 250  # characters


def style():
    """Set matplotlib's defaults for the book. Call it once at the top of a notebook."""
    import matplotlib as mpl

    dpi = 2 * DPI if os.environ.get("GUIDANCE_STATIC") else DPI  # a page shows it at half the size, crisp on a sharp screen
    mpl.rcParams.update({
        "axes.prop_cycle": mpl.cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "figure.constrained_layout.use": True,
        "figure.dpi": dpi,
        "figure.facecolor": "white",  # the page shows figures on a white card in its dark theme
        "figure.figsize": (6.4, 3.4),
        "font.size": 10,
        "image.cmap": "viridis",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "savefig.dpi": dpi,
    })


def scatter(ax, x, labels=None, *, size=6.0, alpha=0.6, names=None, limit=None):
    """Draw 2-D points, one colour and one marker per label, on equal axes.

    Parameters
    ----------
    ax : matplotlib Axes.
    x : (n, 2) real array.
    labels : (n,) array or None (all points alike).
    size, alpha : marker area in square points; opacity in (0, 1].
    names : dict from label to legend text, or None for no legend.
    limit : float or None; both axes then run from -limit to limit.

    Raises
    ------
    ValueError if x is not (n, 2), or labels is not (n,).
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x must have shape (n, 2), got {x.shape}")
    labels = np.zeros(len(x), dtype=int) if labels is None else np.asarray(labels)
    if labels.shape != (len(x),):
        raise ValueError(f"labels must have shape ({len(x)},), got {labels.shape}")
    for i, label in enumerate(np.unique(labels)):
        ax.scatter(*x[labels == label].T, s=size, alpha=alpha, marker=MARKERS[i % len(MARKERS)],
                   color=COLORS[i % len(COLORS)], linewidths=0, label=None if names is None else names[label])
    ax.set_aspect("equal")
    if limit is not None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    if names is not None:
        ax.legend(markerscale=2)


def image_grid(ax, x, n_columns=10, shape=(8, 8), low=-1.0, high=1.0):
    """Draw flattened grey images in rows of `n_columns`, dark ink on white, without axes.

    Parameters
    ----------
    ax : matplotlib Axes.
    x : (n, height * width) real array; `low` is paper and `high` is ink, values beyond are clipped.
    n_columns : int >= 1.
    shape : (height, width) of one image.

    Raises
    ------
    ValueError if x does not have height * width columns, or n_columns < 1.
    """
    x, (height, width) = np.asarray(x, dtype=float), shape
    if x.ndim != 2 or x.shape[1] != height * width:
        raise ValueError(f"x must have shape (n, {height * width}), got {x.shape}")
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    n_rows = -(-len(x) // n_columns)
    tiles = np.full((n_rows * n_columns, height + 1, width + 1), low)
    tiles[:len(x), :-1, :-1] = x.reshape(-1, height, width)
    sheet = tiles.reshape(n_rows, n_columns, height + 1, width + 1).swapaxes(1, 2)
    ax.imshow(sheet.reshape(n_rows * (height + 1), -1)[:-1, :-1], cmap="gray_r", vmin=low, vmax=high)
    ax.set_axis_off()


def slider(render, values, *, label, alt, name, value_format="{:g}", caption=None, start=None, live=None):
    """A figure with a slider that works on the static page, and recomputes in a live kernel.

    Every preset value is rendered now, to a PNG of at most 32 colours; the page switches between them without a
    kernel. In a live kernel the same display is an ipywidgets control that calls `render` for any value in between.

    Parameters
    ----------
    render : function of one value that returns a matplotlib Figure; the figure is closed afterwards.
    values : 1-D increasing numbers, at least 2 (8 to 15 are a good number).
    label : str, what the slider sets, such as "guidance strength w".
    alt : function of one value that returns what the frame shows, in at most 250 characters.
    name : str, lower-case words joined by hyphens, unique on the page.
    value_format : str, format of the value beside the slider.
    caption : str or None. A numbered caption comes from the cell's metadata instead.
    start : the preset value that is shown first; default the first.
    live : bool or None; None means: only in a live kernel, not in a build of the book.

    Returns
    -------
    Slider: make it the last expression of the cell.

    Raises
    ------
    ValueError if the label, the name or an alt text is missing or malformed, an alt text is longer than 250
        characters, values are not increasing numbers, or start is not one of them.
    TypeError if render does not return a Figure.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise ValueError(f"values must be at least 2 increasing numbers, got {values}")
    if not (isinstance(label, str) and label.strip()):
        raise ValueError(f"label must be a text that is not empty, got {label!r}")
    if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)):
        raise ValueError(f"name must be lower-case words joined by hyphens, as in 'strength-moons', got {name!r}")
    values = values.tolist()
    start = values[0] if start is None else float(start)
    if start not in values:
        raise ValueError(f"start must be one of the values {values}, got {start}")
    alts = [_checked_alt(alt(value), value) for value in values]
    frames = [_png(render(value)) for value in values]
    texts = [value_format.format(value) for value in values]
    live = _in_live_kernel() if live is None else live
    return Slider(render, values, label, name, texts, alts, frames, caption, values.index(start), live)


@dataclass(frozen=True, repr=False)
class Slider:
    """What `slider` returns: one display, an HTML figure for any page and a widget for a live kernel."""

    render: object
    values: list
    label: str
    name: str
    texts: list
    alts: list
    frames: list  # PNG, as bytes
    caption: str | None
    start: int
    live: bool

    def __repr__(self):
        return f"Slider({self.label}: {self.texts[0]} to {self.texts[-1]}, {len(self.values)} frames)"

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self.to_html()}
        return bundle | (self.widget()._repr_mimebundle_() if self.live else {})

    def to_html(self):
        """The slider as HTML that needs nothing but a browser; without scripts, the first frame and the table."""
        start, ident = self.start, f"slider-{self.name}"
        frames = ["data:image/png;base64," + base64.b64encode(png).decode() for png in self.frames]
        width, height = _size(self.frames[start])
        rows = "".join(f"<tr><td>{html.escape(text)}</td><td>{html.escape(alt)}</td></tr>"
                       for text, alt in zip(self.texts, self.alts))
        data = json.dumps({"frames": frames, "alts": self.alts, "texts": self.texts}).replace("<", "\\u003c")
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return f"""<figure class="slider" id="{ident}" style="margin: 0">
<div class="slider-control" hidden>
<label for="{ident}-range">{html.escape(self.label)}</label>
<input type="range" id="{ident}-range" min="0" max="{len(frames) - 1}" step="1" value="{start}" autocomplete="off"
 aria-valuetext="{html.escape(self.texts[start])}">
<output for="{ident}-range" aria-live="polite">{html.escape(self.texts[start])}</output>
</div>
<img src="{frames[start]}" alt="{html.escape(self.alts[start])}" width="{width}" height="{height}"
 style="max-width: 100%; height: auto">
{caption}<details><summary>What each frame shows, in words</summary>
<table><thead><tr><th scope="col">{html.escape(self.label)}</th><th scope="col">frame</th></tr></thead>
<tbody>{rows}</tbody></table></details>
<script>(() => {{
const data = {data};
const root = document.getElementById("{ident}"), range = root.querySelector("input");
const show = () => {{
  const i = Number(range.value), image = root.querySelector("img");
  image.src = data.frames[i];
  image.alt = data.alts[i];
  range.setAttribute("aria-valuetext", data.texts[i]);
  root.querySelector("output").textContent = data.texts[i];
}};
range.addEventListener("input", show);
root.querySelector(".slider-control").hidden = false;
show();
}})();</script>
</figure>"""

    def widget(self):
        """The live control: an ipywidgets slider over every value between the presets, and the redrawn figure."""
        import ipywidgets as widgets

        low, high = self.values[0], self.values[-1]
        control = widgets.FloatSlider(self.values[self.start], min=low, max=high, step=(high - low) / 200,
                                      description=self.label, continuous_update=False,
                                      style={"description_width": "initial"}, layout={"width": "36em"})
        picture = widgets.Image(value=self.frames[self.start], format="png",
                                layout={"width": f"{_size(self.frames[0])[0]}px", "max_width": "100%"})
        control.observe(lambda change: setattr(picture, "value", _png(self.render(change["new"]))), names="value")
        return widgets.VBox([control, picture], layout={"align_items": "flex-start"})


def _checked_alt(text, value):
    if not (isinstance(text, str) and text.strip()):
        raise ValueError(f"alt must return a text for every value, got {text!r} at {value}")
    if len(text) > ALT_LIMIT:
        raise ValueError(f"alt text at {value} has {len(text)} characters, more than {ALT_LIMIT}")
    return text


def _png(figure):
    """The figure as a small PNG of at most 32 colours; closes it."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

    if not isinstance(figure, Figure):
        raise TypeError(f"render must return a matplotlib Figure, got {type(figure).__name__}")
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=DPI, bbox_inches=None)
    plt.close(figure)
    Image.open(full).convert("RGB").quantize(32).save(small, format="png", optimize=True)
    return small.getvalue()


def _size(png):
    """Width and height in pixels, from the header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _in_live_kernel():
    """Whether a kernel runs this, and it is not a build of the book (which sets GUIDANCE_STATIC)."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return not os.environ.get("GUIDANCE_STATIC") and hasattr(get_ipython(), "kernel")
