"""What a submission's process may do: use so much memory and time, read the libraries, write to its own folder.

Three fences, each for itself. Resource limits hold on every Unix. Landlock, on Linux from 5.13 on, is the kernel's own: the
process sees no file but those named, whatever it calls. The audit hook holds on every system and says in plain words what
was refused, but a determined program gets around it. None of them replaces a container.
"""
from __future__ import annotations

import ctypes
import os
import struct
import sys

# The system calls have these numbers on every architecture that Python runs on under Linux.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
NO_NEW_PRIVILEGES, VERSION_ONLY, PATH_BENEATH = 38, 1, 1
READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a folder
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights on files a version of Landlock knows
TCP, SCOPE = 0b11, 0b11  # bind and connect; signals and sockets to processes outside

REFUSED = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "os.killpg", "pty.spawn",
           "subprocess.Popen", "socket.connect", "socket.bind", "socket.sendto")
FILES = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
         "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "os.truncate", "shutil.rmtree", "os.chdir")


def limit(memory, seconds):
    """At most so many bytes of memory and seconds of processor time, files of at most 64 MiB, no core dump."""
    try:
        import resource
    except ImportError:  # not a Unix
        return False
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, 64 * 2**20),
                       (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (most, most))
    return True


def confine(readable, writable):
    """Let the kernel refuse every file outside these folders, new privileges, TCP, and signals to other processes.

    Returns whether the kernel does so; older ones know less, and other systems nothing of it.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, 0, VERSION_ONLY)
    if version < 1:
        return False
    rights = (1 << RIGHTS.get(version, 16)) - 1
    fields = [rights] + [TCP] * (version >= 4) + [SCOPE] * (version >= 6)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    for folders, allowed in ((readable, READ), (writable, rights)):
        for folder in folders:
            if os.path.exists(folder):
                descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                files_only = allowed if os.path.isdir(folder) else allowed & (1 << 0 | 1 << 1 | 1 << 2)
                libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", files_only, descriptor), 0)
                os.close(descriptor)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def watch(readable, writable):
    """Refuse, with words, other processes, connections, foreign libraries and files outside the folders."""
    allowed = tuple(os.path.realpath(folder) for folder in (*readable, *writable))

    def within(path):
        place = os.path.realpath(os.fsdecode(path))
        return any(place == folder or place.startswith(folder + os.sep) for folder in allowed)

    def hook(event, arguments):
        if event in ("ctypes.dlopen", "ctypes.dlsym"):  # the libraries of an installed package are its own affair
            name = getattr(arguments[0], "_name", arguments[0])
            if not name or os.sep not in os.fsdecode(name) or not within(name):
                raise PermissionError(f"{event} of {name} is not allowed in the grader")
        if event in REFUSED:
            raise PermissionError(f"{event} is not allowed in the grader: solve the problem inside this process")
        if event in FILES and arguments and isinstance(arguments[0], (str, bytes, os.PathLike)) and not within(arguments[0]):
            raise PermissionError(f"{os.fsdecode(arguments[0])} is outside the folder that the grader gives a submission")

    sys.addaudithook(hook)


def readable():
    """The places that a submission needs to read: Python with what is installed, the system's libraries, devices."""
    return sorted({sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/localtime", "/etc/ld.so.cache", "/etc/fonts", "/dev/null",
                   "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"})
