"""Run a docker credential helper: a program that is asked for one host's secret.

Protocol: docker/docker-credential-helpers. `docker-credential-<name> get` reads the server on
stdin and answers JSON on stdout.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from snapcore.errors import PermissionDenied

HELPER_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# What helpers print when they know nothing about a server; part of their protocol.
_NOT_FOUND: Final = b"credentials not found in native keychain"


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


def run_helper(
    name: str,
    server: str,
    environment: Mapping[str, str],
    seconds: float = HELPER_SECONDS,
) -> tuple[str, str] | None:
    """Ask the helper `name` for the credentials of `server`.

    Args:
        name: the part after `docker-credential-`.
        server: the key it was stored under.
        environment: the helper's environment; its PATH says where helpers are.
        seconds: how long it may take.

    Returns:
        User name and secret; None if the helper has nothing for `server`.

    Raises:
        PermissionDenied: no such helper, or it failed, hung or talked too much. Nothing it
            printed is shown: it may be a secret.
    """
    program = _find(name, environment)
    status, output = _run(program, server, environment, seconds, name)
    if status != 0:
        if output.strip() == _NOT_FOUND:
            return None
        raise PermissionDenied(
            f"credential helper {name!r} failed for {server!r} with status {status};"
            f" try it by hand: {os.path.basename(program)} get"
        )
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Without a cause: the decoder's message may quote the answer.
        raise PermissionDenied(
            f"credential helper {name!r} gave a malformed answer for {server!r}"
        ) from None
    return answer.username, answer.secret


def _find(name: str, environment: Mapping[str, str]) -> str:
    if not _NAME.match(name):
        raise PermissionDenied(f"not a credential helper's name: {name[:100]!r}")
    # Relative entries would let the current directory decide which program sees secrets.
    path = os.pathsep.join(
        entry for entry in environment.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)
    )
    program = shutil.which(f"docker-credential-{name}", path=path) if path else None
    if program is None:
        raise PermissionDenied(
            f"credential helper 'docker-credential-{name}' is not on the PATH;"
            " install it or change the docker config"
        )
    return program


def _run(
    program: str, server: str, environment: Mapping[str, str], seconds: float, name: str
) -> tuple[int, bytes]:
    try:
        process = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise PermissionDenied(
            f"cannot run credential helper {name!r}: {error.strerror}"
        ) from error
    with process:
        try:
            with suppress(BrokenPipeError):
                _feed(process, server)
            output = _read(process, seconds, name)
            return process.wait(timeout=seconds), output
        except subprocess.TimeoutExpired as error:
            raise PermissionDenied(
                f"credential helper {name!r} does not end ({seconds:.0f} s)"
            ) from error
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _feed(process: subprocess.Popen[bytes], server: str) -> None:
    assert process.stdin is not None
    try:
        # Far below a pipe's capacity: this cannot block.
        os.write(process.stdin.fileno(), server.encode()[:2048])
    finally:
        process.stdin.close()


def _read(process: subprocess.Popen[bytes], seconds: float, name: str) -> bytes:
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(deadline - time.monotonic(), 0)):
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return bytes(output)
            output += chunk
            if len(output) > MAX_ANSWER_BYTES:
                raise PermissionDenied(f"credential helper {name!r} answers too much")
    raise PermissionDenied(f"credential helper {name!r} does not answer ({seconds:.0f} s)")
