"""A counter that cannot be turned back: a TPM 2.0 NV counter, which outlives every disk image.

The trusted state says how often it has changed, and so does the TPM. Who restores an old disk image
brings back an old state, whose number is lower than the TPM's: it is refused. The order of a change
is: state first, then the TPM, so that a kill in between leaves the state one ahead, which is mended.

`leeward bundle anchor --tpm` defines the counter at a fixed index of the owner hierarchy. Its being
there is the policy: a node whose TPM has it refuses a state that does not know it. Deleting and
defining it again does not help a thief: a new counter begins above every counter that ever was.

Commands are written to the kernel's resource manager as bytes, so that nothing needs to be installed.
Specification: TPM 2.0 Library, part 2 (structures) and part 3, sections 31.3 NV_DefineSpace, 31.6
NV_ReadPublic, 31.8 NV_Increment, 31.13 NV_Read; a new counter's value: part 1, section 37.2.4.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundles.errors import TrustRootMissing

DEVICE = Path("/dev/tpmrm0")
INDEX = 0x01C1_4C57
"""In the range that owners may use (TCG Registry of Reserved TPM 2.0 Handles, section 2.2)."""

Transmit = Callable[[bytes], bytes]
"""Sends one command to a TPM and returns its response. Raises OSError."""

_OWNER = 0x4000_0001
_PASSWORD = 0x4000_0009
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_DEFINE, _INCREMENT, _READ, _READ_PUBLIC = 0x12A, 0x134, 0x14E, 0x169
_SHA256 = 0x000B
_COUNTER_BYTES = 8
_COUNTER = 0x10
_ATTRIBUTES = _COUNTER | 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25
"""Counter; owner and password may write and read; wrong passwords do not lock the TPM out."""
_HEADER = struct.Struct(">HII")
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, _PASSWORD, 0, 0, 0)
_NO_SUCH_INDEX = 0x18B
"""TPM_RC_HANDLE for handle 1: the index is not defined."""
_MAX_RESPONSE_BYTES = 4096


class Counter(Protocol):
    """A number that only grows. Raises TrustRootMissing where it cannot be read or raised."""

    def read(self) -> int | None:
        """Return the number; None where no counter is in force."""
        ...

    def increment(self) -> None:
        """Raise it by one, durably."""
        ...


@dataclass(frozen=True, slots=True)
class TpmCounter:
    """The counter at INDEX of the TPM that `transmit` speaks to."""

    transmit: Transmit

    def is_defined(self) -> bool:
        """Whether the TPM has it."""
        code, body = self._send(_READ_PUBLIC, struct.pack(">I", INDEX), sessions=False)
        if code == _NO_SUCH_INDEX:
            return False
        self._check(code)
        (attributes,) = struct.unpack_from(">I", body, 8)
        if attributes & 0xF0 != _COUNTER:
            raise _unusable(f"index 0x{INDEX:08x} is no counter; something else uses it")
        return True

    def define(self) -> None:
        """Make it and count for the first time; what is there already is left alone."""
        if self.is_defined():
            return
        public = struct.pack(">IHIHH", INDEX, _SHA256, _ATTRIBUTES, 0, _COUNTER_BYTES)
        parameters = struct.pack(">H", 0) + struct.pack(">H", len(public)) + public
        code, _ = self._send(_DEFINE, struct.pack(">I", _OWNER), parameters)
        self._check(code)
        self.increment()

    def read(self) -> int:
        """Return the number."""
        code, body = self._send(_READ, struct.pack(">II", INDEX, INDEX), struct.pack(">HH", _COUNTER_BYTES, 0))
        self._check(code)
        (value,) = struct.unpack_from(">Q", body, 4 + 2)  # parameter size, then a sized buffer
        return int(value)

    def increment(self) -> None:
        """Raise it by one."""
        code, _ = self._send(_INCREMENT, struct.pack(">II", INDEX, INDEX))
        self._check(code)

    def _send(
        self, command: int, handles: bytes, parameters: bytes = b"", *, sessions: bool = True
    ) -> tuple[int, bytes]:
        body = handles + (_EMPTY_PASSWORD if sessions else b"") + parameters
        tag = _SESSIONS if sessions else _NO_SESSIONS
        try:
            response = self.transmit(_HEADER.pack(tag, _HEADER.size + len(body), command) + body)
        except OSError as error:
            raise _unusable(f"it does not answer: {error.strerror or error}") from error
        if len(response) < _HEADER.size:
            raise _unusable(f"its answer has {len(response)} bytes")
        _, _, code = _HEADER.unpack_from(response)
        return code, response[_HEADER.size :]

    def _check(self, code: int) -> None:
        if code != 0:
            raise _unusable(f"it answered with code 0x{code:x}")


@dataclass(frozen=True, slots=True)
class NodeCounter:
    """This node's counter, in force where its TPM has one; the TPM is asked at each use."""

    device: Path = DEVICE

    def tpm(self) -> TpmCounter | None:
        """Return the TPM's counter, whether or not it is defined; None where there is no TPM."""
        return TpmCounter(lambda command: _exchange(self.device, command)) if self.device.exists() else None

    def read(self) -> int | None:
        """Return the number; None where no counter is in force."""
        counter = self.tpm()
        return counter.read() if counter is not None and counter.is_defined() else None

    def increment(self) -> None:
        """Raise it by one."""
        counter = self.tpm()
        if counter is None:
            raise _unusable(f"{self.device} is gone")
        counter.increment()


def _exchange(device: Path, command: bytes) -> bytes:
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, command)
        return os.read(descriptor, _MAX_RESPONSE_BYTES)
    finally:
        os.close(descriptor)


def _unusable(detail: str) -> TrustRootMissing:
    return TrustRootMissing(
        detail=f"the TPM's counter cannot be used: {detail}",
        remedy="Look at `journalctl -k` and at the firmware's settings. Nothing is imported until the TPM answers.",
    )
