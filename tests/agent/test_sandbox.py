"""Ways out of the sandbox, each tried for real, and what its owner is told."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.agent import chain
from datagen.agent.chain import UID_SLOTS, worker_uid
from datagen.agent.live import Sandbox, SandboxLost
from datagen.agent.sandbox import (
    Limits,
    Outcome,
    python_program,
    run_once,
    sandbox_problem,
)
from datagen.errors import WorkspaceError
from tests.agent.needs import needs_sandbox

MIB = 1 << 20
holds = needs_sandbox()


def python(code: str, **limits: float) -> Outcome:
    """Run Python in a sandbox of its own."""
    given = Limits(**{"wall_s": 8.0, **limits})  # type: ignore[arg-type]
    return asyncio.run(run_once([python_program(), "-s", "-S", "-c", code], limits=given))


def said(code: str, **limits: float) -> str:
    """What Python prints, from a run that ends well."""
    outcome = python(code, **limits)
    assert outcome.exit_code == 0, outcome
    return outcome.stdout.decode().strip()


def attempt(statement: str) -> str:
    """Python that says how a statement ends: `done`, or the error's name and number."""
    return (
        "import ctypes, os, socket\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"try:\n    value = {statement}\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
        "else:\n    print('done' if value != -1 else os.strerror(ctypes.get_errno()))\n"
    )


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@holds
def test_no_network(listening: int) -> None:
    with socket.create_connection(("127.0.0.1", listening), timeout=2):
        pass
    here = f"socket.create_connection(('127.0.0.1', {listening}), 2)"
    assert said(attempt(here)) == "ConnectionRefusedError"
    assert said(attempt("socket.create_connection(('192.0.2.1', 80), 2)")) == "OSError"
    assert said(attempt("socket.socket(40, socket.SOCK_STREAM)")) == "OSError"
    assert said(attempt("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)")) == "OSError"
    # an abstract address knows no file system, but it knows the network namespace
    name = f"\0datagen-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        reach = f"socket.socket(socket.AF_UNIX).connect({name!r})"
        assert said(attempt(reach)) == "ConnectionRefusedError"


@holds
def test_nothing_of_the_machine_can_be_written(tmp_path: Path) -> None:
    places = ["/", "/usr", "/usr/lib", "/etc", "/dev", "/proc", "/proc/sys/kernel", str(tmp_path)]
    code = (
        "import os\n"
        f"for place in {places!r}:\n"
        "    try:\n        open(place + '/hostname', 'w')\n        print(place)\n"
        "    except OSError:\n        pass\n"
    )
    assert said(code) == ""
    assert said("open('/tmp/a', 'w').write('x'); open('b', 'w').write('x'); print('ok')") == "ok"
    assert said("import os; print(os.listdir('.'), os.listdir('/tmp'))") == "[] []"


@holds
def test_no_file_of_the_user_can_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    secret.chmod(0o644)
    paths = ["/etc/shadow", "/etc/passwd", str(secret), str(Path.home()), str(Path.cwd()), "/root"]
    code = (
        "import os\n"
        f"print([path for path in {paths!r} if os.path.exists(path)])\n"
        "print([name for name in os.environ if name not in "
        "('HOME', 'PATH', 'PWD', 'LANG', 'LC_CTYPE', 'PYTHONHASHSEED')])\n"
    )
    assert said(code).split("\n") == ["[]", "[]"]


@holds
def test_packages_of_the_machine_are_not_there() -> None:
    code = (
        "import sys, os\nfound = []\n"
        "for folder in sys.path:\n"
        "    for name in ('site-packages', 'dist-packages'):\n"
        "        if os.path.isdir(folder + '/' + name):\n"
        "            found += os.listdir(folder + '/' + name)\n"
        "print(found)"
    )
    assert said(code) == "[]"


@holds
@pytest.mark.parametrize(
    "call",
    [
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
        "libc.umount2(b'/tmp', 2)",
        "libc.unshare(0x10000000)",
        "libc.ptrace(16, 1, 0, 0)",
        "libc.setns(0, 0)",
        "libc.syscall(321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
        "libc.syscall(250 if os.uname().machine == 'x86_64' else 219, 0, 0, 0)",
        "libc.syscall(425, 8, 0)",
        "libc.shmget(0, 4096, 0o1600)",
        "libc.syscall(319 if os.uname().machine == 'x86_64' else 279, b'a', 0)",
        "libc.chroot(b'/tmp')",
        "libc.setuid(0)",
        "libc.sethostname(b'a', 1)",
    ],
)
def test_calls_that_lead_out_are_refused(call: str) -> None:
    assert said(attempt(call)) in ("Operation not permitted", "Invalid argument")


@holds
def test_its_owner_cannot_be_signalled_traced_or_read() -> None:
    pid = os.getpid()
    assert said(attempt(f"os.kill({pid}, 9)")) in ("ProcessLookupError", "done")
    assert os.getpid() == pid
    code = (
        "import os; print(sorted(n for n in os.listdir('/proc') if n.isdigit())[:1], os.getppid())"
    )
    assert said(code) == "['1'] 0"
    assert said("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))") == "[0, 1, 2, 3]"


@holds
def test_a_fork_bomb_stays_inside() -> None:
    code = (
        "import os, time\nmade = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0:\n            time.sleep(30)\n"
        "        made += 1\n"
        "except BlockingIOError:\n    print(made, flush=True)\n    os._exit(0)"
    )
    assert 1 <= int(said(code, processes=16)) <= 16
    endless = (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    )
    begin = time.monotonic()
    assert python(endless, wall_s=1.0).ended == "wall_time"
    assert time.monotonic() - begin < 5
    assert _of_the_sandboxes() == []


@holds
def test_memory_disk_and_files_are_bounded() -> None:
    assert b"MemoryError" in python("x = bytearray(300 << 20)", memory_bytes=256 * MIB).stderr
    fill = (
        "import os\nwritten = 0\n"
        "try:\n"
        "    for n in range(100):\n"
        "        with open(f'{place}/{n}', 'wb') as f:\n"
        "            written += f.write(bytes(1 << 20))\n"
        "except OSError as error:\n    print(error.errno, written >> 20)"
    )
    for place in ("/tmp", "/dev/shm", "/home/sandbox"):
        code, size = said(f"place = {place!r}\n{fill}", disk_bytes=8 * MIB).split()
        assert (int(code), int(size) <= 8) == (28, True)  # ENOSPC
    large = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + attempt(
        "[open('a', 'wb').write(bytes(3 << 20))]"
    )
    assert said(large, file_bytes=2 * MIB) == "OSError"


@holds
def test_output_time_and_processor_are_bounded() -> None:
    loud = python("while True: print('y' * 1000)", output_bytes=5000)
    assert (loud.ended, len(loud.stdout)) == ("output", 5000)
    slow = python("print('begun', flush=True); import time; time.sleep(60)", wall_s=2.0)
    assert (slow.ended, slow.exit_code, slow.stdout) == ("wall_time", None, b"begun\n")
    busy = python("while True: pass", cpu_s=1, wall_s=60)
    assert (busy.ended, busy.exit_code) == ("exit", 128 + 9)


@holds
def test_nothing_is_left_behind() -> None:
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    outcome = python(code)
    assert (outcome.ended, outcome.exit_code) == ("exit", 0)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in children]
    assert "Z" not in states
    assert _of_the_sandboxes() == []


def _of_the_sandboxes() -> list[str]:
    """Processes that still run under this process's sandboxes, a moment after their end."""
    root = os.geteuid() == 0
    uids = {worker_uid(slot) for slot in range(UID_SLOTS)} if root else set()
    found: list[str] = []
    for _ in range(50):
        found = [folder.name for folder in Path("/proc").glob("[0-9]*") if _sandboxed(folder, uids)]
        if not found:
            break
        time.sleep(0.02)
    return found


def _sandboxed(folder: Path, uids: set[int]) -> bool:
    """By its uid, or where all have the user's own, by bubblewrap's command line."""
    try:
        if uids:
            return folder.stat().st_uid in uids
        return b"--hostname\0sandbox" in (folder / "cmdline").read_bytes()
    except OSError:
        return False


@holds
def test_what_comes_in_and_goes_out() -> None:
    data = bytes(range(256)) * 4000
    echo = [
        python_program(),
        "-s",
        "-S",
        "-c",
        "import sys, shutil\n"
        "shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)\n"
        "sys.stderr.write('told')\nsys.exit(3)",
    ]
    limits = Limits(output_bytes=2 * MIB)
    outcome = asyncio.run(run_once(echo, stdin=data, limits=limits))
    assert outcome == Outcome(ended="exit", exit_code=3, stdout=data, stderr=b"told")
    assert asyncio.run(run_once(["no-such-program"])).exit_code == 127
    assert python("import ctypes; ctypes.string_at(0)").exit_code == 128 + 11


@holds
def test_many_at_once_are_bounded_and_end() -> None:
    async def run() -> list[Outcome]:
        code = "import sys; print(sys.argv[1])"
        command = [python_program(), "-s", "-S", "-c", code]
        return await asyncio.gather(*(run_once([*command, str(n)]) for n in range(24)))

    assert [int(outcome.stdout) for outcome in asyncio.run(run())] == list(range(24))


@holds
def test_a_cancelled_run_ends_its_sandbox() -> None:
    async def run() -> None:
        command = [python_program(), "-c", "import time; time.sleep(60)"]
        task = asyncio.create_task(run_once(command))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert _of_the_sandboxes() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root leaves its uid")
def test_every_slot_has_a_uid_that_is_not_root() -> None:
    uids = [worker_uid(slot) for slot in range(UID_SLOTS)]
    assert len(set(uids)) == UID_SLOTS and min(uids) > 0
    own = "import os; print(open('/proc/self/uid_map').read().split()[0], os.getuid())"
    assert sandbox_problem() or said(own) == "1000 1000"


@pytest.mark.parametrize("program", ["bwrap", "prlimit", "setpriv"])
def test_without_a_layer_nothing_runs(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, whose search for programs does not find the layer."""
    if program == "setpriv" and os.geteuid() != 0:
        pytest.skip("without root there is no uid to leave")
    code = f"""
import asyncio, shutil, sys
found = shutil.which
shutil.which = lambda name, **more: None if name == {program!r} else found(name, **more)
from datagen.agent.sandbox import run_once, sandbox_problem
from datagen.errors import WorkspaceError
print(sandbox_problem())
try:
    asyncio.run(run_once(["/bin/true"]))
except WorkspaceError as error:
    print(error.exit_code, error.where)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    lines = ran.stdout.splitlines()
    assert f"lacks {program}" in lines[0] and "apt-get install" in lines[1]
    assert lines[-1] == "2 sandbox"


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chain.layers.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        with pytest.raises(WorkspaceError, match="Linux"):
            chain.layers()
    finally:
        chain.layers.cache_clear()


@holds
def test_a_live_sandbox_keeps_files_between_commands() -> None:
    async def run() -> None:
        async with Sandbox(limits=Limits(wall_s=1.0, output_bytes=1000)) as box:
            await box.write("notes/a.txt", b"one\ntwo\n")
            counted = await box.run(["sh", "-c", "wc -l < notes/a.txt > n; cat n; exit 4"])
            assert (counted.exit_code, counted.stdout.strip()) == (4, b"2")
            assert (await box.read("n")).strip() == b"2"
            assert (await box.run(["cat"], stdin=b"x" * 999)).stdout == b"x" * 999
            assert (await box.run(["sleep", "60"], timeout_s=0.2)).ended == "wall_time"
            loud = await box.run(["yes"])
            assert (loud.ended, len(loud.stdout)) == ("output", 1000)
            assert (await box.run(["no-such-program"])).exit_code == 127
            assert (await box.run(["sh", "-c", "kill -11 $$"])).exit_code == 128 + 11
            quick = await box.run(["sh", "-c", "sleep 30 & echo begun"])
            assert (quick.ended, quick.stdout) == ("exit", b"begun\n")
            with pytest.raises(OSError, match="Read-only"):
                await box.write("/usr/a", b"")
            with pytest.raises(OSError, match="No such file"):
                await box.read("missing")

    asyncio.run(run())
    assert _of_the_sandboxes() == []


SPY = """
opened = []
for name in ('mem', 'environ', 'maps', 'fd/0', 'fd/1', 'fd/3', 'fd/4'):
    try:
        open(f'/proc/1/{name}', 'r+b', 0)
        opened.append(name)
    except OSError:
        pass
print(opened)
"""


@holds
def test_orphans_of_a_live_sandbox_do_not_use_up_its_processes() -> None:
    async def run() -> list[int | None]:
        async with Sandbox(limits=Limits(processes=12)) as box:
            orphan = ["sh", "-c", "(sleep 0.01 &)"]
            return [(await box.run(orphan)).exit_code for _ in range(40)]

    assert asyncio.run(run()) == [0] * 40


@holds
def test_a_live_sandbox_hides_its_supervisor_and_outlives_its_commands() -> None:
    async def run() -> None:
        async with Sandbox() as box:
            spied = await box.run([python_program(), "-c", SPY])
            assert (spied.stdout, spied.exit_code) == (b"[]\n", 0)
            assert (await box.run(["sh", "-c", "kill -9 -1; kill -9 1"])).ended == "exit"
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
        assert (await box.run(["true"])).ended == "lost"
        with pytest.raises(SandboxLost):
            await box.read("n")

    asyncio.run(run())
