"""What a sandbox costs to start and to use, and which ways out of it are refused here.

python -m scripts.bench.sandbox [--rounds 30] [--at-once 100]

Times are the median and the fastest of the rounds, one at a time. Escapes are tried for real; one
that succeeds ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from datagen.agent.chain import UID_SLOTS
from datagen.agent.live import Sandbox
from datagen.agent.sandbox import Limits, python_program, run_once, sandbox_problem
from datagen.generate.verify.code import run_tests

PYTHON = ("-s", "-S", "-c")
LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "
RAISE = "; import os, sys; sys.exit(ctypes.get_errno() if value == -1 else 0)"
# Each is Python that ends with 0 only where it got out.
ESCAPES = {
    "connect to another machine": "import socket; socket.create_connection(('192.0.2.1', 80), 2)",
    "a socket to the hypervisor (vsock)": "import socket; socket.socket(40, 1)",
    "write to the root": "open('/a', 'w')",
    "write to the libraries": "open('/usr/lib/a', 'w')",
    "write a kernel setting": "open('/proc/sys/kernel/hostname', 'w').write('a')",
    "read /etc/shadow": "open('/etc/shadow').read()",
    "list /root": "import os; os.listdir('/root')",
    "list the folder of this run": f"import os; os.listdir({str(Path.cwd())!r})",
    "mount": LIBC + "value = libc.mount(b'a', b'/tmp', b'tmpfs', 0, 0)" + RAISE,
    "a user namespace": LIBC + "value = libc.unshare(0x10000000)" + RAISE,
    "trace a process": LIBC + "value = libc.ptrace(16, 1, 0, 0)" + RAISE,
    "become root": "import os; os.setuid(0)",
    "memory that no limit counts (System V)": LIBC + "value = libc.shmget(0, 4096, 896)" + RAISE,
    "memory that no limit counts (memfd)": "import os; os.memfd_create('a')",
    "more memory than allowed": "bytearray(2 << 30)",
    "more processes than allowed": (
        "import os, time\nfor _ in range(99):\n    if not os.fork(): time.sleep(9)"
    ),
    "more disk than allowed": "for n in range(99): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
    "output without end": "while True: print('y' * 4096)",
    "time without end": "import time; time.sleep(99)",
    "signal whoever started it": "import os; os.kill(os.getppid() or 4242, 9)",
}


async def timed(rounds: int, work: Callable[[], Awaitable[object]]) -> str:
    """Median and fastest of several rounds, in milliseconds."""
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await work()
        found.append((time.perf_counter() - begin) * 1000)
    return f"{statistics.median(found):7.1f} {min(found):7.1f}"


async def costs(rounds: int) -> None:
    """What one use of each kind takes."""
    print(f"{'milliseconds, one at a time':44} {'median':>7} {'fastest':>7}")
    outside = [python_program(), *PYTHON, "1"]

    async def process() -> None:
        await (await asyncio.create_subprocess_exec(*outside)).wait()

    async def opened() -> None:
        async with Sandbox():
            pass

    print(f"{'Python outside, for comparison':44} {await timed(rounds, process)}")
    true = await timed(rounds, lambda: run_once(["true"], tools="shell"))
    print(f"{'a sandbox for one command (true)':44} {true}")
    print(f"{'a sandbox for one Python':44} {await timed(rounds, lambda: run_once(outside))}")
    tests = await timed(rounds, lambda: run_tests("def f(x): return x", ["assert f(1) == 1"] * 3))
    print(f"{'code against three tests':44} {tests}")
    print(f"{'a sandbox that stays, opened and closed':44} {await timed(rounds, opened)}")
    async with Sandbox() as box:
        print(f"{'a command inside it':44} {await timed(rounds, lambda: box.run(['true']))}")


async def at_once(count: int) -> None:
    """Many sandboxes: one-shot, where a core takes one at a time, and open side by side."""
    begin = time.perf_counter()
    await asyncio.gather(*(run_once(["true"], tools="shell") for _ in range(count)))
    print(f"\n{count} one-shot sandboxes asked for at once: {time.perf_counter() - begin:.2f} s")
    begin = time.perf_counter()
    before = available_mib()
    async with AsyncExitStack() as stack:
        opened = [Sandbox() for _ in range(min(count, UID_SLOTS // 2))]
        await asyncio.gather(*(stack.enter_async_context(box) for box in opened))
        used = (before - available_mib()) / len(opened)
        print(
            f"{len(opened)} sandboxes open side by side: {time.perf_counter() - begin:.2f} s, "
            f"{used:.1f} MiB each"
        )
        begin = time.perf_counter()
        ended = await asyncio.gather(*(box.run(["echo", "a"]) for box in opened))
        good = sum(outcome.stdout == b"a\n" for outcome in ended)
        print(f"a command in each: {time.perf_counter() - begin:.2f} s, {good} answered")


def available_mib() -> float:
    """Memory that the machine could still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) / 1024


async def escapes() -> int:
    """Try each way out; returns how many succeeded."""
    print(f"\n{'way out':44} how it ended")
    out = 0
    for name, code in ESCAPES.items():
        command = [python_program(), *PYTHON, code]
        outcome = await run_once(command, limits=Limits(wall_s=3, cpu_s=2))
        lines = outcome.stderr.decode(errors="replace").strip().splitlines()
        how = lines[-1][:60] if lines else f"{outcome.ended}, {outcome.exit_code}"
        escaped = outcome.exit_code == 0
        out += escaped
        print(f"{name:44} {'OUT' if escaped else 'refused'}: {how}")
    return out


def main() -> None:
    """Measure, try, and say on which machine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=100)
    given = parser.parse_args()
    problem = sandbox_problem()
    if problem is not None:
        sys.exit(f"error: {problem}")
    version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True)
    print(f"{version.stdout.strip()}, {python_program()}")

    async def measured() -> int:
        await costs(given.rounds)
        await at_once(given.at_once)
        return await escapes()

    sys.exit(1 if asyncio.run(measured()) else 0)


if __name__ == "__main__":
    main()
