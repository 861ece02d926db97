"""The process of one submission: runs the student's cells, then answers calls until the grader closes the line.

Started by `grade` with nothing of the grader's in reach. It holds no right answer and gives no mark; what it sends back is
data, and data alone decides.
"""
from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import struct
import sys
import tempfile

from homework import sandbox, wire

# Loaded before the fences go up: these take files or foreign code. The package's own files are not to be read afterwards.
LIBRARIES = ("IPython.core.interactiveshell", "matplotlib.pyplot", "scipy.integrate", "scipy.optimize", "scipy.special", "scipy.stats")
NETWORKS = {"guidance.learn", "guidance.pipelines"}  # loading PyTorch takes longer than all the rest, and no set needs it


class Line:
    """The pipe to the grader and the one from it, and the functions that the student's code handed over."""

    def __init__(self, incoming, outgoing):
        self.incoming, self.outgoing, self.handed = incoming, outgoing, []

    def handle(self, function):
        self.handed.append(function)
        return len(self.handed) - 1

    def send(self, message):
        wire.write(self.outgoing, message)

    def receive(self):
        """The grader's next message; the process ends when the grader has gone."""
        header = self.incoming.read(4)
        if len(header) < 4:
            os._exit(0)
        return pickle.loads(self.incoming.read(*struct.unpack(">I", header)))  # from the grader, which is trusted

    def stand_in(self, value):
        """The value itself, or a function that asks the grader where the grader lent one."""
        if not isinstance(value, wire.Lent):
            return value

        def ask(*args, **kwargs):
            self.send({"ask": value.number, "args": wire.encode(args, self.handle), "kwargs": wire.encode(kwargs, self.handle)})
            return self.serve()
        return ask

    def serve(self, perform=None):
        """Do what the grader says until it answers a question of ours; returns that answer."""
        while True:
            message = self.receive()
            if "answer" in message:
                return self.stand_in(message["answer"])
            if "refusal" in message:
                raise RuntimeError(message["refusal"])
            try:
                value = Session.current.perform(self, message)
                self.send({"value": wire.encode(value, self.handle)})
            except BaseException as error:  # a submission may raise anything, SystemExit too: all of it is an answer
                self.send({"error": wire.describe(error), "blank": isinstance(error, NotImplementedError)})


class Session:
    """The student's notebook: an IPython shell that keeps what its cells define."""

    current = None

    def __init__(self):
        from IPython.core.history import HistoryManager
        from IPython.core.interactiveshell import InteractiveShell

        HistoryManager.enabled = False
        self.shell = InteractiveShell.instance()
        # Lines such as "!pip install" and "%matplotlib inline" belong to a notebook, and have nothing to do here.
        self.shell.system = self.shell.enable_gui = lambda *_, **__: None
        Session.current = self

    def perform(self, line, message):
        """Run a cell, fetch a value, or call a function by its name or by the number under which it was handed over."""
        if "cell" in message:
            result = self.shell.run_cell(message["cell"], store_history=False, silent=True)
            result.raise_error()
            return None
        if "name" in message and message["name"] not in self.shell.user_ns:
            raise NameError(f"{message['name']} is not defined")
        value = self.shell.user_ns[message["name"]] if "name" in message else line.handed[message["number"]]
        if "args" not in message:
            return value
        if not callable(value):
            raise TypeError(f"{message.get('name', 'what was returned')} is not a function")
        return value(*map(line.stand_in, message["args"]),
                     **{key: line.stand_in(argument) for key, argument in message["kwargs"].items()})


def withhold(names):
    """Put a refusal in the place of the package's functions and methods that the set asks the student to write."""
    def refusal(name):
        def refuse(*args, **kwargs):
            raise RuntimeError(f"{name} is not lent in this set: the problem asks for code of your own")
        return refuse

    for name in names:
        home, _, attribute = name.rpartition(".")
        original = getattr(pkgutil.resolve_name(home), attribute)
        if isinstance(pkgutil.resolve_name(home), type):
            setattr(pkgutil.resolve_name(home), attribute, refusal(name))
        for key, module in list(sys.modules.items()):
            if key.split(".")[0] == "guidance":
                for attribute in [attribute for attribute, value in vars(module).items() if value is original]:
                    setattr(module, attribute, refusal(name))


def main(memory, seconds, *withheld):
    line = Line(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    folder = tempfile.mkdtemp(prefix="submission-")
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder, IPYTHONDIR=folder, MPLBACKEND="agg")
    tempfile.tempdir = folder
    os.chdir(folder)
    import guidance

    package = {found.name for found in pkgutil.walk_packages(guidance.__path__, "guidance.")}
    for name in (*LIBRARIES, *sorted(package - NETWORKS)):
        importlib.import_module(name)
    Session()
    withhold(withheld)
    readable = sandbox.readable()
    fences = {"landlock": sandbox.confine(readable, [folder]), "limits": sandbox.limit(int(memory), int(seconds))}
    sandbox.watch(readable, [folder])
    line.send({"value": wire.encode({**fences, "folder": folder}, line.handle)})
    line.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
