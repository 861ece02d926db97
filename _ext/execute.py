"""Execute stale notebooks two at a time into the cache before the pages are read.

myst-nb finds a notebook in the cache when its code cells are unchanged. That does not see a change in the package that
the cells import, so the cache carries a fingerprint of everything else an output depends on and is emptied when that
changes. The same step collects the records of the ledger (see `ledger_page`).
"""
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.console import strip_escape_sequences

WORKERS = 2
INPUTS = ("guidance/**/*.py", "_ext/execute.py", "requirements.lock", "pyproject.toml")
# One thread each: small matrices are many times slower on several. No progress bars and no widgets in a page.
KERNEL_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                      "TQDM_DISABLE": "1", "GUIDANCE_STATIC": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
log = logging.getLogger(__name__)


def setup(app):
    os.environ.update(KERNEL_ENVIRONMENT)
    app.connect("env-get-outdated", refresh)
    app.connect("build-finished", forget_failed_build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def refresh(app, env, added, changed, removed):
    """Bring the cache up to date; returns the pages to read again."""
    notebooks = executed_notebooks(env)
    folder = Path(env.mystnb_config.execution_cache_path)
    emptied = empty_if_inputs_changed(folder, fingerprint(Path(app.srcdir)))
    cache = get_cache(str(folder))
    stale = {doc: path for doc, path in notebooks.items() if not is_cached(cache, path)}
    if stale:
        execute(cache, stale, app.config.nb_execution_timeout)
    return list(notebooks if emptied else stale)


def executed_notebooks(env):
    """{page: path} of every notebook of the book that the build executes."""
    left_out = env.mystnb_config.execution_excludepatterns  # as myst-nb matches them
    paths = {doc: Path(env.doc2path(doc)) for doc in sorted(env.found_docs)}
    return {doc: path for doc, path in paths.items() if path.suffix == ".ipynb" and not any(map(path.match, left_out))}


def fingerprint(root):
    """A hash of every file, beside the notebook itself, that an output depends on."""
    digest = hashlib.sha256()
    for pattern in INPUTS:
        for path in sorted(root.glob(pattern)):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def empty_if_inputs_changed(folder, current):
    """Empty the cache unless it was filled under the same fingerprint; returns whether it was emptied."""
    stamp = folder / "fingerprint"
    if stamp.exists() and stamp.read_text() == current:
        return False
    if folder.exists():
        log.info("the package or the lock changed: every notebook executes again")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    stamp.write_text(current)
    return True


def is_cached(cache, path):
    """Whether the notebook's code cells stand in the cache, executed."""
    try:
        cache.match_cache_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return False
    return True


def execute(cache, stale, timeout):
    """Execute notebooks in parallel into the cache; raises with every failing cell's traceback."""
    log.info("executing %d notebook(s), %d at a time", len(stale), WORKERS)
    failures = []
    with ThreadPoolExecutor(WORKERS) as pool:
        running = {pool.submit(execute_one, path, timeout): doc for doc, path in stale.items()}
        for done, future in enumerate(as_completed(running), start=1):
            doc, error = running[future], future.exception()
            result = None if error else future.result()
            error = error or result.err
            if error:
                failures.append(f"{doc}: {strip_escape_sequences(str(error))}")
                log.info("[%d/%d] %s failed", done, len(stale), doc)
                continue
            bundle = CacheBundleIn(result.nb, str(stale[doc]), data={"execution_seconds": result.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            log.info("[%d/%d] %s executed in %.1f s", done, len(stale), doc, result.time)
    if failures:
        raise ExtensionError("notebooks failed to execute\n\n" + "\n\n".join(failures))


def execute_one(path, timeout):
    return single_nb_execution(nbformat.read(path, as_version=4), cwd=str(path.parent), timeout=timeout,
                               allow_errors=False, extra_arguments=["--IPKernelApp.log_level=ERROR"])


def forget_failed_build(app, error):
    """Read every page again after a build with warnings, which an incremental build would not repeat."""
    if error or app._warncount:
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)
