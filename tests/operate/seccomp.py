"""Runs a program whose system calls fail as under a seccomp profile: `seccomp.py clone3=EPERM,... PROGRAM...`."""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping

NUMBERS = {"clone3": 435, "clone": {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)}
"""Numbers of the system calls; that of clone3 is the same on all architectures of Debian."""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x0005_0000, 0x7FFF_0000


class Filter(ctypes.Structure):
    """`struct sock_fprog` of the kernel."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(errors: Mapping[int, int]) -> None:
    """Have the kernel fail system calls, each with its error, for this process and all that come of it."""
    instructions = [(LOAD_NUMBER, 0, 0, 0)]
    for number, error in errors.items():
        instructions += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, SECCOMP_RET_ERRNO | error)]
    instructions += [(RETURN, 0, 0, SECCOMP_RET_ALLOW)]
    system = ctypes.CDLL(None, use_errno=True)
    made = Filter(len(instructions), b"".join(struct.pack("=HBBI", *each) for each in instructions))
    failed = system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or system.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(made), 0, 0
    )
    if failed:
        sys.exit(f"no seccomp filter can be set here: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    pairs = (part.split("=") for part in sys.argv[1].split(","))
    refuse({NUMBERS[call]: getattr(errno, error) for call, error in pairs})
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program that is to be run, no shell
