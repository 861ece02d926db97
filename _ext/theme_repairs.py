"""Small repairs of the theme and its neighbours, so that a page asks for nothing from outside, logs no error and repeats no id."""
import re

# Roles that screen readers reject: a list whose entries are no list items, and a role that is withdrawn.
REJECTED = re.compile(r' role="(?:list(?=" class="citation-list)|doc-biblioentry)"')

# Every proof, exercise and solution of a page gets these ids from its extension; nothing links to them.
REPEATED = re.compile(r' id="(?:(?:proof|exercise|solution)-content|proof)"')


def setup(app):
    app.connect("config-inited", set_theme_options)
    app.connect("html-page-context", drop_thebe)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("html-page-context", drop_invalid_attributes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def set_theme_options(app, config):
    """One search field; source, issue and launch buttons only once `repository: url` in _config.yml is filled in."""
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the side bar has the search field
    if options.get("repository_url"):
        options |= {"use_repository_button": True, "use_source_button": True, "use_issues_button": True}
        hosts = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
        options.setdefault("launch_buttons", {}).update(hosts)


def drop_thebe(app, pagename, templatename, context, doctree):
    """Remove the theme's live-code scripts: unused here, added twice, and naming an outside address."""
    context["script_files"] = [script for script in context.get("script_files", ())
                               if "thebe" not in f"{script.filename} {script.attributes}".lower()]


def drop_invalid_attributes(app, pagename, templatename, context, doctree):
    """Remove ids that would stand more than once on a page, which is not valid HTML, and roles that do not fit."""
    if "body" in context:
        context["body"] = REJECTED.sub("", REPEATED.sub("", context["body"]))


def keep_bars(app, what, name, obj, options, lines):
    """Docstrings are plain text: a bar, as in p(c | x), is no substitution of reStructuredText."""
    lines[:] = [re.sub(r"(``?[^`]*``?)|[|]", lambda found: found[1] or r"\|", line) for line in lines]
