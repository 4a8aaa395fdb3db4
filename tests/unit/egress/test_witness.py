"""The witness: what it records, and that the program under it lives as it would without."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.entrypoints.witness import Record, bound_names, foreign_name

WITNESS = Path(__file__).resolve().parents[3] / "appliance/entrypoints/witness.py"
TRIES = """
import socket, subprocess, sys
def tries(name, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as asking:
        try:
            asking.sendto(b"x", name) if kind == socket.SOCK_DGRAM else asking.connect(name)
        except OSError:
            pass
for _ in range(10):
    tries("\\0outside")
tries("\\0datagram", socket.SOCK_DGRAM)
tries("/run/dbus/system_bus_socket")
with socket.socket(socket.AF_UNIX) as own:
    own.bind("\\0leeward-test-own")
    own.listen()
    tries("\\0leeward-test-own")
code = "import socket; socket.socket(socket.AF_UNIX).connect('\\\\0of-a-child')"
subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
print("ended well")
"""


def address(name: bytes) -> bytes:
    return struct.pack("=H", 1) + name


@pytest.mark.parametrize(
    ("name", "called"),
    [
        (b"\0outside", "@outside"),
        (b"\0a\0b", "@a@b"),
        (b"\0own", None),
        (b"/run/leeward/management.sock\0", "/run/leeward/management.sock"),
        (b"/run/leeward-engine/../leeward/management.sock\0", "/run/leeward/management.sock"),
        (b"/run/leeward-engine/engine.sock\0", None),
        (b"/tmp/zmq\0", None),
        (b"/var/run/nscd/socket\0", None),
        (b"/run/uuidd/request\0", None),
        (b"", None),
    ],
)
def test_only_what_is_not_the_engines_own_is_recorded(name: bytes, called: str | None) -> None:
    assert foreign_name(address(name), frozenset({"@own"})) == called


def test_other_families_are_the_traps_matter() -> None:
    assert foreign_name(struct.pack("=HH4s", 2, 443, b"\x08\x08\x08\x08"), frozenset()) is None


def test_bound_names_are_read_as_the_kernel_writes_them() -> None:
    table = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 12345 @own name\n"
        "0000000000000000: 00000002 00000000 00000000 0002 01   678\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01     9 /run/x\n"
    )

    assert bound_names(table) == {"@own name", "/run/x"}


def test_a_name_is_said_at_each_tenfold_and_names_are_bounded() -> None:
    record = Record()

    said = [record.add("@x") for _ in range(100)]
    flood = [record.add(f"@{number}") for number in range(2_000)]

    assert [json.loads(line.split(" ", 1)[1])["count"] for line in said if line] == [1, 10, 100]
    assert len({line for line in flood if line}) < 1_010


def test_tries_are_recorded_and_the_program_ends_as_it_would() -> None:
    done = subprocess.run(
        [sys.executable, "-I", WITNESS, sys.executable, "-c", TRIES],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = [json.loads(line.split(" ", 1)[1]) for line in done.stderr.splitlines() if line.startswith("leeward-w")]

    assert (done.returncode, done.stdout) == (0, "ended well\n")
    assert [(line["name"], line["count"]) for line in lines] == [
        ("@outside", 1), ("@outside", 10), ("@datagram", 1), ("/run/dbus/system_bus_socket", 1), ("@of-a-child", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("end", "status"), [("exit 3", 3), ("kill -9 $$", -signal.SIGKILL)])
def test_the_programs_end_is_the_witnesss_own(end: str, status: int) -> None:
    command = [sys.executable, "-I", str(WITNESS), "/bin/sh", "-c", end]

    assert subprocess.run(command, check=False, timeout=60).returncode == status


def test_a_stop_reaches_the_program() -> None:
    wait = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-I", str(WITNESS), sys.executable, "-c", wait], stdout=subprocess.PIPE, text=True
    ) as witness:
        assert witness.stdout is not None
        assert witness.stdout.readline() == "up\n"
        begun = time.monotonic()
        os.kill(witness.pid, signal.SIGTERM)

        assert witness.wait(30) == 7
        assert time.monotonic() - begun < 30


def test_a_program_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-I", WITNESS, "/nowhere/vllm"], check=False, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 127
    assert "/nowhere/vllm" in done.stderr
