"""The system calls that a sandbox refuses, as a classic BPF program for bubblewrap's --seccomp.

Refused are the calls that have been ways out of a namespace (mounts, tracing, keys, BPF, io_uring,
namespaces of one's own) and those that take memory which no limit counts (System V segments,
memfds). Calls newer than the list do not exist, so that C libraries fall back.

Numbers: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import struct

_X86, _ARM = "x86_64", "aarch64"
_AUDIT_ARCH = {_X86: 0xC000003E, _ARM: 0xC00000B7}
MACHINES = tuple(_AUDIT_ARCH)

_NEWEST = 462
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
_FAMILIES = (1, 2, 10)  # unix, inet, inet6: never vsock, which knows no network namespace
_TERMINAL_TRICKS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into another's terminal

# name: (x86_64, aarch64); None where the machine has no such call
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lsm_get_self_attr": (459, 459),
    "lsm_list_modules": (461, 461),
    "lsm_set_self_attr": (460, 460),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
# clone, clone3, socket, socketpair and ioctl are refused by what they are asked for.
_BY_ARGUMENT = {_X86: (56, 435, 41, 53, 16), _ARM: (220, 435, 198, 199, 29)}

_LOAD, _EQUAL, _ABOVE, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24

_Line = tuple[int, int, int, int]


def _refuse(number: int) -> _Line:
    return (_RETURN, 0, 0, _ERRNO | number)


def _when(test: int, value: int, then: list[_Line]) -> list[_Line]:
    """Do `then` where the loaded word passes the test, else go on behind it."""
    return [(test, 0, len(then), value), *then]


def seccomp_filter(machine: str) -> bytes:
    """The program for one of MACHINES: 8 bytes an instruction, as `struct sock_filter` has them."""
    clone, clone3, socket, socketpair, ioctl = _BY_ARGUMENT[machine]
    allow: _Line = (_RETURN, 0, 0, _ALLOW)
    families: list[_Line] = [(_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
    for family in _FAMILIES:
        families += _when(_EQUAL, family, [allow])
    families.append(_refuse(errno.EAFNOSUPPORT))
    tricks: list[_Line] = [(_LOAD, 0, 0, _SECOND_ARGUMENT_AT)]
    for command in _TERMINAL_TRICKS:
        tricks += _when(_EQUAL, command, [_refuse(errno.EPERM)])
    spaces: list[_Line] = [
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        *_when(_ANY_BIT, _NEW_NAMESPACES, [_refuse(errno.EPERM)]),
    ]
    lines: list[_Line] = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == _X86:
        lines += _when(_AT_LEAST, _X32, [_refuse(errno.ENOSYS)])
    lines += _when(_ABOVE, _NEWEST, [_refuse(errno.ENOSYS)])
    lines += _when(_EQUAL, clone3, [_refuse(errno.ENOSYS)])
    lines += _when(_EQUAL, clone, [*spaces, allow])
    lines += _when(_EQUAL, ioctl, [*tricks, allow])
    lines += _when(_EQUAL, socket, families) + _when(_EQUAL, socketpair, families)
    for numbers in REFUSED.values():
        number = numbers[MACHINES.index(machine)]
        if number is not None:
            lines += _when(_EQUAL, number, [_refuse(errno.EPERM)])
    lines.append(allow)
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
