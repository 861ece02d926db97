"""Pages without what they do not use: applied to every finished page, in place.

The theme draws some fifteen icons with a script of 1.5 MB, puts the search index and the live-code settings into every page, and lets
scripts hold up the first text. Here the icons become a style sheet of a few kilobytes, made from the same script, and the rest
goes. A repair that finds nothing to repair stops the build: then the theme has changed.
"""
import io
import json
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from PIL import Image
from sphinx.errors import ExtensionError

ICON = re.compile(r'<(?:i|span) class="(?:[^"]* )?(fas|fab|far|fa-solid|fa-brands|fa-regular) +fa-([a-z0-9-]+)')
TAG = re.compile(r"<[^>]*>")
PICTURE = re.compile(r'<img (?=[^>]*src="([^"]*_images/[^"]+\.png)")(?![^>]*width)')
DPI = 110  # of a figure at its own size; it may have more pixels
SCRIPT = re.compile(r'<script([^>]*) src="([^"]+)"')
LOCAL_SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
REPAIRS = {
    "the icon script": re.compile(r'\s*<script[^>]*src="[^"]*scripts/fontawesome\.js[^"]*"></script>'),
    "scripts fetched before the style": re.compile(r'\s*<link rel="preload" as="script"[^>]*>'),
    "the live-code style": re.compile(r'\s*<link[^>]*href="[^"]*sphinx-thebe\.css[^"]*"[^>]*>'),
    "a name of the search button that leaves out what is written on it": re.compile(r'(?<=search-button__button pst-js-only" title="Search") aria-label="Search"(?=[^>]*>\s*<i[^>]*></i>\s*<span)'),
    "a second viewport": re.compile(r'<meta name="viewport" content="width=device-width, initial-scale=1"\s*/>'),
}
LIVE_CODE = re.compile(r'\s*<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = [^<]*</script>', re.S)
# What the contents extension leaves there holds no more than the redirection, and a browser then asks for an icon that no one has.
FRONT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={root}">
<link rel="icon" href="_static/{icon}">
<title>{title}</title>
</head>
<body><p><a href="{root}">{title}</a></p></body>
</html>
"""
# The arrow that unfolds a list of pages in the side bar has no name of its own.
UNFOLDS = re.compile(r'(<a class="(?:current )?reference internal" href="[^"]*">)(.*?)(</a><details[^>]*>\s*<summary)>')
LENGTH = 160  # characters of a description
# Summaries are fetched from the pages found, which a browser forbids to a file.
NO_SUMMARY = '<script>if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;</script>\n  </head>'


def setup(app):
    app.add_css_file("icons.css")
    app.connect("html-page-context", describe)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def describe(app, pagename, templatename, context, doctree):
    """A description for search engines: the first paragraph of the page, or the title of the book."""
    texts = (paragraph.astext() for paragraph in doctree.findall(nodes.paragraph)) if doctree else ()
    text = " ".join(next((text for text in texts if len(text) > 40), f"{context.get('title', '')}: {app.config.html_title}").split())
    if len(text) > LENGTH:
        text = text[:LENGTH].rsplit(" ", 1)[0].rstrip(",;:.") + " ..."
    context["metatags"] = context.get("metatags", "") + f'\n    <meta name="description" content="{escape(text)}" />'


def lighten(app, error):
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    pages, icons = [path for path in out.rglob("*.html") if "_static" not in path.parts], set()
    for path in (out / "_images").glob("*.png"):
        quantise(path)
    for path in pages:
        page = path.read_text(encoding="utf-8")
        if "scripts/fontawesome.js" not in page:
            continue  # a redirect, or a page that stood unchanged since the last build
        icons |= set(ICON.findall(page))
        page = PICTURE.sub(lambda found: f'<img width="{width(path.parent / found[1])}" ', lightened(page, path.name == "search.html"))
        path.write_text(page, encoding="utf-8")
    front = FRONT.format(root=app.builder.get_target_uri(app.config.master_doc), icon=Path(app.config.html_favicon).name, title=escape(app.config.html_title))
    (out / "index.html").write_text(front, encoding="utf-8")
    sheet = out / "_static" / "icons.css"
    icons |= set(re.findall(r"\.(fa[\w-]+)\.fa-([a-z0-9-]+)::before", sheet.read_text())) if sheet.exists() else set()
    sheet.write_text(style_sheet(icons, (out / "_static" / "scripts" / "fontawesome.js").read_text(encoding="utf-8")))


def lightened(page, searches=False):
    """The page without what it does not use, and with scripts that wait until the text is there."""
    for name, pattern in REPAIRS.items():
        page, count = pattern.subn("", page)
        if not count:
            raise ExtensionError(f"a page no longer holds {name}: look at light_pages.py")
    page = LIVE_CODE.sub("", page)
    page = page.replace('id="pst-primary-sidebar"', 'id="pst-primary-sidebar" role="navigation" aria-label="This book"')
    page = UNFOLDS.sub(lambda found: f'{found[1]}{found[2]}{found[3]} aria-label="Pages of: {TAG.sub("", found[2])}">', page)
    # The search and the index of theorems set options of a script before they go on, so there nothing waits.
    at_once = searches or "DOCUMENTATION_OPTIONS." in page
    if searches:
        page = page.replace("</head>", NO_SUMMARY, 1)
    else:
        page = LOCAL_SEARCH.sub("", page)
    return SCRIPT.sub(lambda found: found[0] if "defer" in found[1] or at_once else f'<script defer{found[1]} src="{found[2]}"', page)


def quantise(path):
    """Rewrite a picture with 256 colours of its own where that is smaller; shades differ by too little to see."""
    with Image.open(path) as image:
        if image.mode == "P" or image.convert("RGBA").getextrema()[3][0] < 255:  # done before, or see-through
            return
        small = io.BytesIO()
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True, dpi=image.info.get("dpi"))
    if small.tell() < path.stat().st_size:
        path.write_bytes(small.getvalue())


def width(path):
    """How wide a figure is shown, in pixels of the page: by its inches, however many pixels it has."""
    with Image.open(path) as image:
        return round(image.width * DPI / image.info.get("dpi", (DPI, DPI))[0])


def style_sheet(names, script):
    """One rule an icon, with the shape that the theme's own script holds (Font Awesome Free, CC BY 4.0)."""
    rules = ["/* Font Awesome Free (https://fontawesome.com/license/free), icons under CC BY 4.0. */",
             '[class*="fa-"]::before { background: currentColor; content: ""; display: inline-block; height: 1em; vertical-align: -0.125em; '
             "width: 1em; -webkit-mask: var(--icon) center / contain no-repeat; mask: var(--icon) center / contain no-repeat; }"]
    for family, name in sorted(names):
        shapes = re.findall(rf'[,{{]"?{name}"?:(\[\d+,\d+,\[[^\]]*\],"[0-9a-f]*","[^"]+"\])', script)
        if not shapes:
            raise ExtensionError(f"the theme's icon script has no icon {name!r}: look at light_pages.py")
        # The script lists its regular shapes before its solid ones.
        width, height, _, _, path = json.loads(shapes[0 if family in ("far", "fa-regular") else -1])
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
        rules.append(f'.{family}.fa-{name}::before {{ --icon: url("data:image/svg+xml,{quote(drawing, safe=" =:/")}"); }}')
    return "\n".join(rules) + "\n"
