"""Small repairs of the theme, so that a page asks for nothing from outside, logs no error and repeats no id."""
import re

# Every proof, exercise and solution of a page gets these ids from its extension; nothing links to them.
REPEATED = re.compile(r' id="(?:(?:proof|exercise|solution)-content|proof)"')


def setup(app):
    app.connect("config-inited", set_theme_options)
    app.connect("html-page-context", drop_thebe)
    app.connect("html-page-context", drop_repeated_ids)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def set_theme_options(app, config):
    """One search field; source, issue and launch buttons only once `repository: url` in _config.yml is filled in."""
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the side bar has the search field
    if options.get("repository_url"):
        options |= {"use_repository_button": True, "use_issues_button": True}
        options.setdefault("launch_buttons", {})["binderhub_url"] = "https://mybinder.org"


def drop_thebe(app, pagename, templatename, context, doctree):
    """Remove the theme's live-code scripts: unused here, added twice, and naming an outside address."""
    context["script_files"] = [script for script in context.get("script_files", ())
                               if "thebe" not in f"{script.filename} {script.attributes}".lower()]


def drop_repeated_ids(app, pagename, templatename, context, doctree):
    """Remove ids that would stand more than once on a page, which is not valid HTML."""
    if "body" in context:
        context["body"] = REPEATED.sub("", context["body"])
