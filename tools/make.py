"""The commands of this project, for any system: `python tools/make.py book` is what `make book` runs.

Every command first makes `.venv` and installs the committed lock into it, unless that is already done.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCK = ROOT / "requirements.lock"
SITE = ROOT / "_build" / "html"
# One thread for each process: small matrices are up to fifteen times slower on several.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUTF8": "1"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "tools")]))


def run(*command):
    """Run a command in the project's folder and stop with its status if it fails."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, env=ENVIRONMENT).returncode
    if status:
        sys.exit(status)


def pip_install(python, *arguments):
    run(python, "-m", "pip", "install", "-qq", "--no-input", *arguments)


def setup():
    """Make .venv and install the lock, then the package itself; nothing to do while both are unchanged."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    stamp = VENV / "installed"
    current = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode())
    if stamp.exists() and stamp.read_text() == current.hexdigest():
        return
    if not PYTHON.exists():
        print("making .venv", flush=True)
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    print("installing requirements.lock into .venv (a few minutes the first time)", flush=True)
    torch = next(line for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
    pip_install(PYTHON, torch)
    pip_install(PYTHON, "-r", LOCK)
    pip_install(PYTHON, "--no-deps", "--no-build-isolation", "-e", ROOT)
    stamp.write_text(current.hexdigest())


def build():
    """Execute stale notebooks and build the site; any warning is an error."""
    run(BIN / "jupyter-book", "build", "-W", "--keep-going", ROOT)


def book():
    """Build the book and say where it is."""
    build()
    print(f"\nThe book is built. Open {SITE / 'index.html'}")


def test(*arguments):
    """Run every test: the package, every notebook, the built site."""
    browser()
    run(PYTHON, "-m", "pytest", "-n", "auto", "--maxprocesses=4", "--dist=loadfile", "--nbmake", "--nbmake-kernel=python3",
        "--nbmake-timeout=300", *arguments)


def browser():
    """Install Chromium for the browser tests where that needs no question (Debian or Ubuntu, as root)."""
    found = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")))
    if not found and shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        print("installing chromium for the browser tests", flush=True)
        subprocess.run("apt-get -qq update && apt-get -qq install -y chromium > /dev/null", shell=True,
                       env=ENVIRONMENT | {"DEBIAN_FRONTEND": "noninteractive"})


def homework(command):
    def run_command(*arguments):
        run(PYTHON, "-m", "homework", command, *arguments)
    run_command.__name__, run_command.__doc__ = command, HOMEWORK[command]
    return run_command


def lab():
    """Open the notebooks in JupyterLab."""
    run(PYTHON, "-m", "jupyterlab", "book")


def serve():
    """Serve the built site on this machine."""
    book()
    run(PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory", SITE, "8000")


def bench():
    """Measure the package beside its peers and rewrite the benchmark page."""
    run(PYTHON, "tools/bench.py")


def lock():
    """Resolve the newest versions that pyproject.toml allows into requirements.lock."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
        python = Path(folder) / PYTHON.relative_to(VENV)
        pip_install(python, "torch==2.13.0")
        pip_install(python, f"{ROOT}[book,images,test]", "setuptools>=77")
        frozen = subprocess.run([python, "-m", "pip", "freeze", "--all"], check=True, capture_output=True, text=True)
    name = "diffusion-guidance-book"
    pins = [line.split("+")[0] for line in frozen.stdout.splitlines() if "==" in line and not line.startswith(name)]
    pins = [pin for pin in pins if not pin.startswith(("pip==", "nvidia-", "triton==", "cuda-"))]
    LOCK.write_text("# Written by `make lock`: every package of a tested set-up, exactly.\n" + "\n".join(pins) + "\n")


def clean():
    """Remove what was built. The environment stays; delete .venv by hand to start from nothing."""
    for folder in ("_build", ".pytest_cache", ".hypothesis"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)


HOMEWORK = {
    "release": "Make a problem set for a course: the students' notebook, the solution.",
    "collect": "Take in what students handed in.",
    "grade": "Mark it.",
    "feedback": "Write a page for every student.",
    "export": "Write the grades of everyone as a table.",
}
COMMANDS = {command.__name__: command for command in (book, test, *map(homework, HOMEWORK), lab, serve, bench, lock, clean, setup)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        listing = "\n".join(f"  {name:8} {command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items())
        sys.exit(f"usage: python tools/make.py COMMAND\n{listing}")
    name, *arguments = sys.argv[1:]
    if name not in ("lock", "clean", "setup"):
        setup()
    COMMANDS[name](*arguments)
