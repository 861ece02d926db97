"""The `run-times` directive: how long each notebook took when it was last executed, and with which versions of what."""
import platform
from importlib.metadata import version

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.util.docutils import SphinxDirective

from execute import executed_notebooks

PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "matplotlib", "jupyter-book", "Sphinx", "myst-nb", "sphinx-book-theme")


def setup(app):
    app.add_directive("run-times", RunTimes)
    app.connect("env-get-outdated", refresh, priority=650)  # after `execute.refresh`
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def refresh(app, env, added, changed, removed):
    """The pages that show run times are read again in every build: what they show may have changed."""
    return [doc for doc in getattr(env, "run_time_pages", set()) if doc in env.found_docs]


class RunTimes(SphinxDirective):
    """Two tables: seconds a notebook, in the order of the book, and versions."""

    def run(self):
        self.env.run_time_pages = getattr(self.env, "run_time_pages", set()) | {self.env.docname}
        cache = get_cache(self.env.mystnb_config.execution_cache_path)
        rows, total, notebooks = [], 0.0, executed_notebooks(self.env)
        for doc in filter(notebooks.get, self.config.external_site_map):
            record = cache.match_cache_notebook(nbformat.read(notebooks[doc], as_version=4))
            seconds = record.data["execution_seconds"]
            total += seconds
            link = self.env.app.builder.get_relative_uri(self.env.docname, doc)
            rows.append([nodes.reference("", doc.removeprefix("book/"), refuri=link, internal=True), f"{seconds:.1f}"])
        rows.append(["all, one after the other", f"{total:.1f}"])
        versions = [["Python", platform.python_version()], ["system", f"{platform.system()} {platform.machine()}"]]
        versions += [[name, version(name)] for name in PACKAGES]
        return [table(("Notebook", "Seconds"), rows), table(("What", "Version"), versions)]


def table(headings, rows):
    def entry(content):
        return nodes.entry("", nodes.paragraph("", "", content if isinstance(content, nodes.Node) else nodes.Text(content)))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=50) for _ in headings),
                         nodes.thead("", nodes.row("", *map(entry, headings))),
                         nodes.tbody("", *(nodes.row("", *map(entry, row)) for row in rows)), cols=len(headings))
    return nodes.table("", group)
