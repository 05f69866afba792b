"""The filter, run by an interpreter of its few instructions: on both machines, every call."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from datagen.agent.seccomp import MACHINES, REFUSED, seccomp_filter

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
CLONE, CLONE3, SOCKET, IOCTL = (
    {"x86_64": 56, "aarch64": 220},
    435,
    {"x86_64": 41, "aarch64": 198},
    {"x86_64": 16, "aarch64": 29},
)


def ran(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the filter says of a system call: ALLOW, KILL, or the errno."""
    data = struct.pack("<IIQ", number, ARCH[machine] if arch is None else arch, 0)
    data += b"".join(struct.pack("<Q", value) for value in [*arguments, *[0] * 6][:6])
    program = list(struct.iter_unpack("<HBBI", seccomp_filter(machine)))
    at, word = 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x06:
            return value if value in (ALLOW, KILL) else value & 0xFFFF
        if code == 0x20:
            word = struct.unpack_from("<I", data, value)[0]
        else:
            held = {
                0x15: word == value,
                0x25: word > value,
                0x35: word >= value,
                0x45: bool(word & value),
            }
            at += yes if held[code] else no


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_is_allowed_or_refused_as_listed(machine: str) -> None:
    refused = {numbers[MACHINES.index(machine)] for numbers in REFUSED.values()}
    for number in range(463):
        if number == CLONE3:
            wanted = errno.ENOSYS
        elif number in (SOCKET[machine], SOCKET[machine] + (12 if machine == "x86_64" else 1)):
            wanted = errno.EAFNOSUPPORT
        else:
            wanted = errno.EPERM if number in refused else ALLOW
        assert ran(machine, number) == wanted, number
    assert ran(machine, 463) == ran(machine, 9999) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_are_refused_by_what_they_ask_for(machine: str) -> None:
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ran(machine, CLONE[machine], flag | 17) == errno.EPERM
    assert ran(machine, CLONE[machine], 0x3D0F00) == ALLOW  # as a thread is made
    families = {family: ran(machine, SOCKET[machine], family) for family in range(46)}
    assert [family for family, said in families.items() if said == ALLOW] == [1, 2, 10]
    assert families[40] == errno.EAFNOSUPPORT  # vsock
    assert ran(machine, IOCTL[machine], 0, 0x5412) == errno.EPERM
    assert ran(machine, IOCTL[machine], 0, (1 << 32) | 0x5412) == errno.EPERM
    assert ran(machine, IOCTL[machine], 0, 0x5401) == ALLOW


def test_another_architecture_is_killed_and_x32_does_not_exist() -> None:
    assert ran("x86_64", 0, arch=0x40000003) == KILL
    assert ran("aarch64", 0, arch=ARCH["x86_64"]) == KILL
    assert ran("x86_64", 0x40000000 | 101) == errno.ENOSYS


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip(f"{HEADERS[machine]} is not installed (linux-libc-dev)")
    text = HEADERS[machine].read_text()
    found = {
        name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)
    }
    ours = {name: numbers[MACHINES.index(machine)] for name, numbers in REFUSED.items()}
    assert {n: v for n, v in ours.items() if v is not None and n in found} == {
        n: found[n] for n, v in ours.items() if v is not None and n in found
    }
    assert len(set(ours) & set(found)) > 50
    assert (found["clone"], found["socket"]) == (CLONE[machine], SOCKET[machine])
    assert (found["clone3"], found["ioctl"]) == (CLONE3, IOCTL[machine])
