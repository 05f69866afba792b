"""The command line that a sandbox is started by: every layer named, and none left out.

    setpriv (as root: a uid of its own) -> prlimit -> bwrap (namespaces, read-only root, seccomp)
    -> prlimit (processes, counted inside) -> the command

Without root, bubblewrap runs under the user's own uid and setpriv falls away. bubblewrap started
as root is no boundary, so root always leaves through setpriv.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datagen.agent.seccomp import MACHINES, seccomp_filter
from datagen.errors import WorkspaceError

MIB = 1 << 20
HOME = "/home/sandbox"
"""Where a command starts; writable, like /tmp and /dev/shm, and gone with the sandbox."""
UID_SLOTS = 256
"""How many sandboxes one process of root may hold at once, each under its own uid."""

_INSIDE_UID = "1000"
_PLACES = (HOME, "/tmp", "/dev/shm")
_PACKAGES = ("site-packages", "dist-packages")
_ASK_PYTHON = (
    "import json, sys, sysconfig; "
    "print(json.dumps([sys.version_info[0], sys.version_info[1], sys.base_prefix, "
    "sysconfig.get_path('stdlib')]))"
)

Tools = Literal["python", "shell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sandbox may take.

    `memory_bytes` is address space, `cpu_s` processor time, `file_bytes` the largest file and
    `open_files` descriptors, each of one process; `processes` counts processes and threads of the
    sandbox, `disk_bytes` each writable place, `output_bytes` what is kept of a command's output;
    one that says more is ended.
    """

    wall_s: float = 30.0
    cpu_s: float = 10.0
    memory_bytes: int = 512 * MIB
    processes: int = 16
    open_files: int = 64
    file_bytes: int = 16 * MIB
    disk_bytes: int = 32 * MIB
    output_bytes: int = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter that a sandbox may bring along, with nothing but its standard library."""

    program: str
    prefix: str
    stdlib: str

    def mounts(self) -> list[str]:
        """bubblewrap's arguments that show it read-only, installed packages hidden."""
        shown = ["--ro-bind", self.program, self.program]
        if self.prefix != "/usr":
            shown += ["--ro-bind", f"{self.prefix}/lib", f"{self.prefix}/lib"]
        for folder in dict.fromkeys([self.stdlib, f"{self.prefix}/lib/python3"]):
            for name in _PACKAGES:
                if Path(folder, name).is_dir():
                    hidden = f"{folder}/{name}"
                    shown += ["--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The programs of the chain as they lie on this machine, and the filter for it."""

    bwrap: str
    prlimit: str
    setpriv: str | None
    python: Python
    filter: bytes


def missing(layer: str, why: str, fix: str) -> WorkspaceError:
    """The refusal to run without a layer."""
    said = f"the sandbox lacks {layer}: {why}; nothing that a model wrote is run without it"
    return WorkspaceError(said, where="sandbox", fix=fix)


@functools.cache
def layers() -> Layers:
    """Find every layer of the chain; WorkspaceError names the first that is missing."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        why = f"this is {sys.platform} on {machine}"
        fix = f"run on Linux ({', '.join(MACHINES)}), in a virtual machine if need be"
        raise missing("namespaces and seccomp", why, fix)
    root = os.geteuid() == 0
    return Layers(
        bwrap=_program("bwrap", "apt-get install bubblewrap (0.8 or newer)"),
        prlimit=_program("prlimit", "apt-get install util-linux"),
        setpriv=_program("setpriv", "apt-get install util-linux") if root else None,
        python=_python(),
        filter=seccomp_filter(machine),
    )


def _program(name: str, fix: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
    if found is None:
        raise missing(name, "it is not installed", fix)
    return os.path.realpath(found)


def _python() -> Python:
    """This interpreter, or the system's where another user may not read this one."""
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    for program in dict.fromkeys([own, os.path.realpath("/usr/bin/python3")]):
        if not os.access(program, os.X_OK):
            continue
        asked = subprocess.run(
            [program, "-I", "-S", "-c", _ASK_PYTHON], capture_output=True, check=False, timeout=30
        )
        if asked.returncode:
            continue
        major, minor, prefix, stdlib = json.loads(asked.stdout)
        if (major, minor) >= (3, 10) and all(map(_open_to_all, (program, stdlib, prefix))):
            return Python(program=program, prefix=prefix, stdlib=stdlib)
    raise missing(
        "a Python",
        f"{own} lies in a folder that only its owner may enter, and there is no other",
        "apt-get install python3 (3.10 or newer), or run as the user who owns the interpreter",
    )


def _open_to_all(path: str) -> bool:
    """Whether the uid that a sandbox runs under can reach a path."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK | os.X_OK)
    real = Path(os.path.realpath(path))
    need = stat.S_IROTH | stat.S_IXOTH
    passable = all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents)
    return passable and real.stat().st_mode & need == need


def worker_uid(slot: int) -> int:
    """A uid that no account has, of this process and slot alone: limits by uid count its own."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, size = map(int, line.split())
        if first == 0:
            most = min(size, (1 << 31) - 1)
            floor = 1_000_000_000 if most > 2_000_000_000 else most // 2
            return floor + (os.getpid() * UID_SLOTS + slot) % (most - floor)
    raise missing(
        "uids", "root is alone in its user namespace", "map a range of uids, or be no root"
    )


def command_line(
    command: Sequence[str],
    *,
    limits: Limits,
    tools: Tools,
    slot: int,
    filter_fd: int,
    status_fd: int,
) -> list[str]:
    """The whole chain for one command; both descriptors are passed on to bubblewrap."""
    found = layers()
    chain: list[str] = []
    if found.setpriv is not None:
        uid = str(worker_uid(slot))
        chain += [found.setpriv, "--reuid", uid, "--regid", uid, "--clear-groups"]
        chain += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    chain += [
        found.prlimit,
        f"--as={limits.memory_bytes}",
        f"--cpu={math.ceil(limits.cpu_s)}",
        f"--fsize={limits.file_bytes}",
        f"--nofile={limits.open_files}",
        f"--stack={8 * MIB}",
        "--core=0",
        "--memlock=0",
        "--msgqueue=0",
    ]
    chain += [found.bwrap, "--unshare-all", "--unshare-user", "--disable-userns"]
    chain += ["--uid", _INSIDE_UID, "--gid", _INSIDE_UID, "--cap-drop", "ALL"]
    # The command is process 1 itself: bubblewrap's own would lie open to whatever has its uid.
    chain += ["--as-pid-1", "--hostname", "sandbox", "--new-session", "--die-with-parent"]
    chain += ["--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"]
    chain += ["--setenv", "HOME", HOME, "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"]
    chain += _mounts(found, tools)
    chain += ["--proc", "/proc", "--dev", "/dev"]
    for place in _PLACES:
        chain += ["--perms", "0700", "--size", str(limits.disk_bytes), "--tmpfs", place]
    chain += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME]
    chain += ["--seccomp", str(filter_fd), "--json-status-fd", str(status_fd), "--"]
    # Inside, so that a user's other processes do not count where there is no uid to itself.
    return [*chain, found.prlimit, f"--nproc={limits.processes}", *command]


def _mounts(found: Layers, tools: Tools) -> list[str]:
    """What a command sees of the machine: libraries and one Python, or all programs, read-only."""
    shown: list[str] = []
    folders = ("/usr",) if tools == "shell" else ("/usr/lib", "/usr/lib64")
    for folder in folders:
        if Path(folder).is_dir():
            shown += ["--ro-bind", folder, folder]
    for link in ("/lib", "/lib64", *(("/bin", "/sbin") if tools == "shell" else ())):
        if Path(link).is_symlink():
            shown += ["--symlink", str(Path(link).readlink()), link]
        elif Path(link).is_dir():
            shown += ["--ro-bind", link, link]
    for path in ("/etc/ld.so.cache", *(("/etc/alternatives",) if tools == "shell" else ())):
        shown += ["--ro-bind-try", path, path]
    if tools == "python" or found.python.prefix != "/usr":
        shown += found.python.mounts()
    if tools == "python":
        shown += ["--ro-bind", found.prlimit, found.prlimit]
    return shown
