"""The `ledger` directive: a table of every claim that the executed notebooks recorded, checked once more."""
import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from execute import executed_notebooks
from guidance.ledger import MIME, Record

HEADINGS = ("Claim", "Source", "Instance", "Numbers", "Tolerance", "Verdict")
WIDTHS = (30, 14, 20, 15, 9, 12)


def setup(app):
    app.add_directive("ledger", Ledger)
    app.connect("env-get-outdated", collect, priority=600)  # after `execute.refresh`
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def collect(app, env, added, changed, removed):
    """Read the records out of the cache, in the order of the book; returns the pages that show them."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    order = list(app.config.external_site_map)
    env.ledger, notebooks = [], executed_notebooks(env)
    for doc in sorted(notebooks, key=lambda doc: order.index(doc) if doc in order else len(order)):
        try:
            _, executed = cache.merge_match_into_notebook(nbformat.read(notebooks[doc], as_version=4))
        except KeyError:
            raise ExtensionError(f"{doc} was edited while it executed: build again") from None
        env.ledger += [(doc, title_of(executed), record) for record in records_in(executed)]
    verify([record for _, _, record in env.ledger])
    return [doc for doc in getattr(env, "ledger_pages", set()) if doc in env.found_docs]


def records_in(notebook):
    """The claims and counterexamples recorded in a notebook's outputs."""
    return [Record(**output["data"][MIME]) for cell in notebook.cells for output in cell.get("outputs", ())
            if MIME in output.get("data", {})]


def title_of(notebook):
    """The text of the first heading."""
    lines = (line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), "Untitled")


def verify(records):
    """Raise if a record fails, a name is used twice, or a claim and its counterexample do not find each other."""
    kinds = {record.name: record.kind for record in records}
    names = [record.name for record in records]
    problems = [f"{record.kind} {record.name!r} is recorded but did not come out: {record!r}"
                for record in records if not record.passed]
    problems += [f"the name {name!r} is recorded {names.count(name)} times" for name in kinds if names.count(name) > 1]
    problems += [f"{record.name!r} refers to {other!r}, which is no {kind} of this book" for record in records
                 for other, kind in ((record.of, "claim"), (record.breaks, "counterexample"))
                 if other and kinds.get(other) != kind]
    if problems:
        raise ExtensionError("ledger: " + "\n".join(problems))


class Ledger(SphinxDirective):
    """All records as one table a chapter."""

    def run(self):
        self.env.ledger_pages = getattr(self.env, "ledger_pages", set()) | {self.env.docname}
        records = [record for _, _, record in self.env.ledger]
        claims = sum(record.kind == "claim" for record in records)
        count = f"Claims: {claims}. Counterexamples: {len(records) - claims}. All were computed by this build."
        return [nodes.paragraph("", count), *map(self.section, dict.fromkeys(doc for doc, _, _ in self.env.ledger))]

    def section(self, doc):
        chapter = [(title, record) for where, title, record in self.env.ledger if where == doc]
        section = nodes.section(ids=[nodes.make_id(f"ledger-{doc}")])
        section += nodes.title("", "", *inline(chapter[0][0]))
        rows = [self.row(doc, record) for _, record in chapter]
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in HEADINGS))
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in WIDTHS),
                             nodes.thead("", head), nodes.tbody("", *rows), cols=len(HEADINGS))
        section += nodes.container("", nodes.table("", group), classes=["ledger"])
        return section

    def row(self, doc, record):
        link = self.env.app.builder.get_relative_uri(self.env.docname, doc) + f"#claim-{record.name}"
        name = nodes.reference("", "", nodes.literal("", record.name), refuri=link, internal=True)
        kind = [] if record.kind == "claim" else [nodes.Text(f" (breaks {record.of})")]
        worst = f" (worst of {record.entries})" if record.entries > 1 else ""
        cells = ([name, *kind, nodes.Text(": "), *inline(record.statement)], inline(record.source),
                 inline(record.instance), [nodes.Text(record.numbers + worst)],
                 [nodes.Text(f"{record.tolerance:.2g}")], [nodes.Text(record.verdict)])
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))


def inline(text):
    """Text in which `$...$` is mathematics, as nodes."""
    return [nodes.math(part, part) if i % 2 else nodes.Text(part) for i, part in enumerate(text.split("$"))]
