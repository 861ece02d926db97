"""Marking one submission: the grader's side, with the checks and the right answers.

A check is the code between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` of a graded cell. It runs here with

    student   the submission: `student.name(...)` calls its function, `student.value("name")` fetches a variable
    award     `with award(2, "what is wrong if this fails"):` gives two points if the block raises nothing
    rng       a generator drawn from the course seed and the name of the cell
    public    the names that the set's instance cells define, with the values that this course's students saw

and with everything that the set's private cells define.
"""
from __future__ import annotations

import builtins
import contextlib
import pickle
import queue
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from homework import wire

TOOLS = Path(__file__).resolve().parent.parent
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What one submission may use: bytes of memory, and seconds for a cell, for all calls of a check, and altogether."""

    memory: int = 4 * 2**30
    cell: float = 30.0
    check: float = 30.0
    total: float = 240.0


class StudentError(Exception):
    """The student's code raised, took too long, ended its process, or returned what is no data."""


@dataclass
class Process:
    """A worker and the line to it."""

    limits: Limits
    withheld: tuple = ()
    lent: list = field(default_factory=list)
    secret: bool = False  # whether the process has been given arguments that only the checks know

    def __post_init__(self):
        command = [sys.executable, "-m", "homework.worker", str(self.limits.memory), str(int(self.limits.total)), *self.withheld]
        environment = {"PYTHONPATH": str(TOOLS), "PATH": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1",
                       "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "SYSTEMROOT": "C:\\Windows"}
        self.worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       env=environment, start_new_session=True)
        self.inbox = queue.Queue(maxsize=4)
        threading.Thread(target=self.listen, daemon=True).start()
        self.fences = self.wait(time.monotonic() + 120)

    def listen(self):
        with contextlib.suppress(Exception):  # a broken message ends the line, as an ended process does
            while (message := wire.read(self.worker.stdout)) is not None:
                self.inbox.put(message)
        self.inbox.put(None)

    def send(self, message):
        raw = pickle.dumps(message)
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come says so
            self.worker.stdin.write(struct.pack(">I", len(raw)) + raw)
            self.worker.stdin.flush()

    def lend(self, value):
        """A plain function stays here and is asked from there; everything else is copied."""
        if not callable(value) or isinstance(value, type):
            return value
        self.lent.append(value)
        return wire.Lent(len(self.lent) - 1)

    def handed(self, number):
        """A function of the student's that came as a value."""
        return lambda *args, **kwargs: self.call({"number": number}, args, kwargs, self.deadline)

    def call(self, what, args, kwargs, deadline):
        lend, self.secret = self.lend, True
        self.send({**what, "args": [lend(value) for value in args], "kwargs": {key: lend(value) for key, value in kwargs.items()}})
        return self.wait(deadline)

    def wait(self, deadline):
        """The value of the last order, answering on the way what the student's code asks of lent functions."""
        self.deadline = deadline
        while True:
            try:
                message = self.inbox.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                self.close()
                raise StudentError("it took too long and was stopped") from None
            if message is None:
                self.close()
                raise StudentError("its process ended: it called exit, ran out of memory, or crashed")
            try:
                if "ask" in message:
                    self.answer(message)
                elif "error" in message:
                    raise StudentError("it is not written yet" if message.get("blank") is True else f"it raised {self.told(message['error'])}")
                else:
                    return wire.decode(message["value"], self.handed)
            except (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
                self.close()
                raise StudentError(f"it sent something that cannot be read ({type(error).__name__})") from None

    def told(self, error):
        """What may be said of an error: all of it in a cell, and in a call its kind alone, for its text could carry the arguments out."""
        if not self.secret:
            return error
        kind = getattr(builtins, str(error).partition(":")[0], None)
        return kind.__name__ if isinstance(kind, type) and issubclass(kind, BaseException) else "an error"

    def answer(self, message):
        try:
            function = self.lent[message["ask"]]
            value = function(*wire.decode(message["args"], self.handed), **wire.decode(message["kwargs"], self.handed))
        except StudentError:
            raise
        except Exception as error:  # a wrong argument is the student's to hear of
            self.send({"refusal": f"the function given as an argument raised {wire.describe(error)}"})
        else:
            self.send({"answer": self.lend(value)})

    @property
    def alive(self):
        return self.worker.poll() is None

    def close(self):
        with contextlib.suppress(ProcessLookupError, OSError):
            self.worker.kill()
        self.worker.wait()
        for stream in (self.worker.stdin, self.worker.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class Submission:
    """A student's cells in a process of their own, started anew, without the cell that ended it, whenever it has ended."""

    def __init__(self, cells, limits=Limits(), withheld=()):
        self.cells, self.limits, self.withheld = dict(cells), limits, withheld
        self.errors, self.folders, self.process, self.fences = {}, [], None, {}
        self.end, self.stop = time.monotonic() + limits.total, None

    def start(self):
        """Run the cells; every error is kept under the cell's name. Raises StudentError when the time is used up."""
        while self.process is None or not self.process.alive:
            if time.monotonic() > self.end:
                raise StudentError("the time for the whole notebook was used up")
            self.process = Process(self.limits, self.withheld)
            self.fences = self.process.fences
            self.folders.append(self.fences["folder"])
            for name, source in self.cells.items():
                try:
                    self.process.send({"cell": source})
                    self.process.wait(min(time.monotonic() + self.limits.cell, self.end))
                except StudentError as error:
                    self.errors[name] = str(error)
                    if not self.process.alive:
                        self.cells[name] = f"raise RuntimeError({f'this cell was left out: {error}'!r})"
                        break

    def begin_check(self):
        """Give the next check its time."""
        self.stop = None

    def ask(self, order):
        """Send an order within the time of the check; after a call that had to be stopped the check gets no more."""
        self.start()
        self.stop = self.stop or min(time.monotonic() + self.limits.check, self.end)
        if time.monotonic() > self.stop:
            raise StudentError("there is no time left for this problem")
        return order(self.process, self.stop)

    def value(self, name):
        """A variable of the notebook, as data."""
        def order(process, deadline):
            process.send({"name": name})
            return process.wait(deadline)
        found = self.ask(order)
        if found is ...:
            raise StudentError("there is no answer yet")
        return found

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.ask(lambda process, deadline: process.call({"name": name}, args, kwargs, deadline))

    def close(self):
        if self.process is not None:
            self.process.close()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


class Marks:
    """The points of one graded cell, property by property."""

    def __init__(self, most):
        self.most, self.points, self.offered, self.lines, self.error = most, 0.0, 0.0, [], None

    @contextlib.contextmanager
    def award(self, points, feedback):
        """Give the points if the block raises nothing; else say the feedback, and what the student's code did."""
        self.offered += points
        try:
            with np.errstate(all="ignore"):
                yield
        except StudentError as error:  # the feedback is for an answer, and there is none
            self.lines.append(f"0 of {points}: " + ("the same." if str(error) == self.error else f"no answer. Your code: {error}."))
            self.error = str(error)
        except AssertionError as error:
            self.lose(points, feedback + (f" ({error})" if str(error) else ""))
        except Exception as error:  # an answer of another kind than the check can handle: an error here, no crash
            self.lose(points, f"{feedback} (Or the answer is of another kind than asked for: {type(error).__name__}.)")
        else:
            self.points += points
            self.lines.append(f"{points} of {points}.")


    def lose(self, points, feedback):
        first = all(line.split(" ")[0] != "0" for line in self.lines)
        self.lines.append(f"0 of {points}: {feedback}" + ("" if first else " Perhaps for the same reason as above: look there first."))


@dataclass(frozen=True)
class Marked:
    """A graded cell of one submission: its points, and what the student reads about them."""

    points: float
    most: float
    lines: list


def generator(seed, name):
    """The generator of a course for one named cell."""
    return np.random.default_rng([int(seed), zlib.crc32(name.encode())])


def namespace(source, public_cells):
    """What the private cells of a source define, and under `public` what the released instance cells do."""
    names, public = {"np": np}, {"np": np}
    for cell in source.cells:
        if "private" in cell.metadata.get("tags", []):
            exec(compile(cell.source, "private cell", "exec"), names)
    for code in public_cells:
        exec(compile(code, "instance cell", "exec"), public)
    return names | {"public": {name: value for name, value in public.items() if name not in ("np", "__builtins__")}}


def mark(source, public_cells, cells, seed, limits=Limits()):
    """Mark a submission.

    Parameters
    ----------
    source : the problem set with its checks, as a notebook (see `release.read_source`).
    public_cells : the code of the instance cells as this course's students got them.
    cells : (name, code) of every code cell of the submission that is not a check, in order.
    seed : the course seed, an integer.

    Returns
    -------
    {grade_id: Marked}, {cell name: error}, {fence: whether it stood}
    """
    names = namespace(source, public_cells)
    submission = Submission(cells, limits, tuple(names.get("withheld", ())))
    results = {}
    try:
        for cell in source.cells:
            graded = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and graded.get("grade"):
                marks = Marks(graded["points"])
                submission.begin_check()
                given = names | {"student": submission, "award": marks.award, "rng": generator(seed, graded["grade_id"])}
                exec(compile(HIDDEN.search(cell.source)[1], graded["grade_id"], "exec"), given)
                if abs(marks.offered - marks.most) > 1e-9:
                    raise ValueError(f"{graded['grade_id']} is worth {marks.most} points but its checks award {marks.offered}")
                results[graded["grade_id"]] = Marked(marks.points, marks.most, marks.lines)
        return results, submission.errors, {key: value for key, value in submission.fences.items() if key != "folder"}
    finally:
        submission.close()
