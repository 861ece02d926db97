"""Links from the chapters to the pages of the package: names in the text become links, and a chapter ends with all that its code takes."""
import ast
import re

from docutils import nodes

import guidance

CALL = re.compile(r"([A-Za-z_][\w.]*)(\(.*\))?")


def setup(app):
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def link(app, doctree, docname):
    objects = app.env.get_domain("py").objects
    if not objects or not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    trees = list(parsed(block.astext() for block in doctree.findall(nodes.literal_block) if "python" in block.get("language", "")))
    aliases = imported(trees)

    def reference(name, *children):
        entry = objects[name]
        uri = app.builder.get_relative_uri(docname, entry.docname) + "#" + entry.node_id
        return nodes.reference("", "", *children, refuri=uri, internal=True)

    for literal in list(doctree.findall(nodes.literal)):
        name = resolved(CALL.fullmatch(literal.astext()), aliases, objects)
        if name and not isinstance(literal.parent, (nodes.title, nodes.reference)):
            literal.replace_self(reference(name, literal.deepcopy()))
    names = sorted(set(taken(trees, aliases, objects)))
    if names:
        links = [reference(name, nodes.literal("", name.removeprefix("guidance."))) for name in names]
        between = [part for each in links for part in (nodes.Text(", "), each)][1:]
        place = next(doctree.findall(nodes.section), doctree)
        place += nodes.paragraph("", "", nodes.Text("From the package: "), *between, nodes.Text("."), classes=["api-links"])


def parsed(sources):
    """The syntax trees of the blocks that are whole programs; a sketch of code is passed over."""
    for source in sources:
        try:
            yield ast.parse(source)
        except SyntaxError:
            continue


def imported(trees):
    """What each name stands for that was imported from the package."""
    aliases = {"guidance": "guidance"}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.name.split(".")[0] == "guidance" and alias.asname}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "guidance":
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return aliases


def resolved(found, aliases, objects):
    """The documented name for `cfg`, `g.cfg` or `exact.FlowMap(...)`, or None."""
    if found is None:
        return None
    first, dot, rest = found[1].removeprefix("g.").partition(".")
    whole = aliases.get(first, f"guidance.{first}") + dot + rest
    return documented(whole, objects)


def documented(whole, objects):
    """The name as its page has it: `guidance.cfg` is documented as `guidance.guide.cfg`. Modules do not count."""
    parts = whole.split(".")
    if len(parts) > 1 and parts[1] in guidance._HOME:
        whole = ".".join(["guidance", guidance._HOME[parts[1]], *parts[1:]])
    return whole if whole in objects and objects[whole].objtype != "module" else None


def taken(trees, aliases, objects):
    """The documented names that the code uses; `cfg.combine` counts as `cfg`, whose entry explains it."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.Name, ast.Attribute)):
            first, dot, rest = ast.unparse(node).partition(".")
            name = first in aliases and documented(aliases[first] + dot + rest, objects)
            if name:
                yield name
