"""Threads: whether the system lets the program start them, where not, which cause it is, and the memory they keep."""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from proxy.runtime.sockets import StartError

CLONE3 = 435
"""Number of the system call (Linux): the same on every architecture but alpha and mips."""
ARENAS = 2
"""Areas of memory that all threads share (glibc has eight for each processor, and each keeps what it has had)."""
M_ARENA_MAX = -8
"""Of `mallopt(3)`."""

_PYTHON_SAYS = "can't start new thread"
_BY_CLONE3 = (
    "the seccomp profile answers clone3 with EPERM, and glibc falls back to clone only on ENOSYS. The default profile "
    "of containerd before 1.4.10 (1.5: before 1.5.6) and of docker before 20.10.10 does so. Update the container "
    "runtime, or run without a profile: in the chart podSecurityContext.seccompProfile.type: Unconfined, which the "
    "namespace has to admit (pod-security.kubernetes.io/enforce: privileged); in docker --security-opt "
    "seccomp=unconfined"
)
_BY_CLONE = (
    "the system answers clone with EPERM: a seccomp profile or a security module forbids threads. Allow the system "
    "calls clone and clone3"
)
_BY_LIMIT = (
    "a limit on processes and threads is reached (EAGAIN). Raise the limit of the pod (podPidsLimit of the kubelet), "
    "of the container (--pids-limit), of the unit (TasksMax) or of the user (ulimit -u)"
)


@contextmanager
def threads_needed() -> Iterator[None]:
    """Start one thread before the block, which starts more; raises StartError where one of them cannot start."""
    error = _start_thread()
    if error:
        raise StartError(f"cannot start a thread: {why_refused(error)}")
    try:
        yield
    except RuntimeError as failure:
        if _PYTHON_SAYS not in str(failure):
            raise
        # Python tells no error number. One thread could start, so it is not forbidden.
        raise StartError(f"cannot start another thread: {_BY_LIMIT}") from failure


def bound_arenas() -> None:
    """Have threads share memory: with many large manifests at a time the program is a fifth smaller (measured).

    To be called before other threads start; systems without glibc have no such setting.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def why_refused(error: int) -> str:
    """Why the system starts no thread or process, by its error number, and what to do."""
    if error == errno.EPERM:
        return _BY_CLONE3 if _clone3_is_forbidden() else _BY_CLONE
    return _BY_LIMIT if error == errno.EAGAIN else os.strerror(error)


def _start_thread() -> int:
    """Start a thread and wait until it has ended; 0, or the error number that Python's RuntimeError leaves out."""
    system = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    error = int(system.pthread_create(ctypes.byref(thread), None, system.getpid, None))
    if not error:
        system.pthread_join(thread, None)
    return error


def _clone3_is_forbidden() -> bool:
    """Whether clone3 fails with EPERM before the kernel has looked at its arguments: these start nothing."""
    if sys.platform != "linux":
        return False
    system = ctypes.CDLL(None, use_errno=True)
    system.syscall(ctypes.c_long(CLONE3), None, ctypes.c_size_t(0))
    return ctypes.get_errno() == errno.EPERM
