"""The zygote: a small single-threaded process from which workers are forked.

It has no database, no network and few capabilities, and it starts workers in a millisecond
because the applier is already loaded. It ends when its parent closes the control socket, and
every worker ends with it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from snapcore.faults import arm_as_told
from snapcore.linux import (
    Cap,
    Namespace,
    effective_capabilities,
    keep_capabilities,
    set_no_new_privileges,
    set_not_dumpable,
    unshare,
)
from snapcore.unpack import protocol, worker

# What applying a layer takes: owners, modes, devices, file capabilities. No CAP_SYS_ADMIN: the
# parent marks opaque directories on descriptors that it is handed.
_NEEDED = (Cap.CHOWN, Cap.DAC_OVERRIDE, Cap.FOWNER, Cap.FSETID, Cap.MKNOD, Cap.SETFCAP)


def main(control_descriptor: int) -> None:
    """Serve jobs from a control socket until it is closed."""
    _give_up_privileges()
    os.umask(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=control_descriptor) as control:
        while True:
            data, descriptors, _, _ = socket.recv_fds(
                control, protocol.MAX_MESSAGE, protocol.MAX_DESCRIPTORS
            )
            if not data:
                return
            _fork(control, protocol.decode_job(data), descriptors)


def _fork(control: socket.socket, job: protocol.Job, descriptors: list[int]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            with socket.socket(fileno=descriptors[0]) as connection:
                worker.run(connection, job, descriptors[1:], parent)
            status = 0
        finally:
            # Not sys.exit: the child must not run what its parent left to be cleaned up.
            os._exit(status)
    for descriptor in descriptors:
        os.close(descriptor)


def _reap(number: int, frame: object) -> None:
    del number, frame
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _give_up_privileges() -> None:
    held = effective_capabilities()
    if Cap.SYS_ADMIN in held:
        unshare(Namespace.NET | Namespace.IPC)
    keep_capabilities(capability for capability in _NEEDED if capability in held)
    set_no_new_privileges()
    set_not_dumpable()


if __name__ == "__main__":
    arm_as_told(os.environ)
    main(int(sys.argv[1]))
