"""A slot small enough to make by hand: a real wheelhouse, but with a program in vLLM's place.

What the roles do with it is the same as for a release: the environment is made from wheels by their
hashes, the unit starts the program in its sandbox. The program says over its socket what it can see.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

SLOT = "26.11.0-e1"
PROGRAM = """
import json, os, pathlib, socket, sys


def readable(path):
    try:
        return bool(os.listdir(path)) or True
    except OSError:
        return False


def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True


def reachable(address):
    with socket.socket() as outgoing:
        outgoing.settimeout(1)
        try:
            outgoing.connect((address, 22))
        except OSError:
            return False
    return True


def tries():
    # Every way out, and how it ended.
    def tcp():
        with socket.create_connection(("192.0.2.7", 443), timeout=5):
            pass

    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outgoing:
            outgoing.sendto(b"x", ("192.0.2.8", 5000))

    def udp_message():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outgoing:
            outgoing.sendmsg([b"x"], [], 0, ("192.0.2.9", 123))

    def name():
        socket.getaddrinfo("weights.example.org", 443)

    def abstract():
        with socket.socket(socket.AF_UNIX) as outgoing:
            outgoing.connect("\\0outside")

    def daemon():
        with socket.socket(socket.AF_UNIX) as outgoing:
            outgoing.connect("/run/leeward/management.sock")

    ended = {}
    for way in (tcp, udp, udp_message, name, abstract, daemon):
        try:
            way()
            ended[way.__name__] = "got out"
        except OSError as error:
            ended[way.__name__] = type(error).__name__
    return ended


def main():
    arguments = sys.argv[1:]
    path = arguments[arguments.index("--uds") + 1]
    seen = {
        "arguments": arguments,
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("VLLM_")},
        "uid": os.getuid(),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "reachable": [address for address in ("10.88.0.1", "127.0.0.1") if reachable(address)],
        "weights_writable": writable("/var/lib/leeward/slots/26.11.0-e1/weights"),
        "cache_writable": writable("/var/cache/leeward-engine"),
        "ledger_readable": readable("/var/lib/leeward/ledger"),
        "state_readable": readable("/var/lib/leeward/state"),
        "tries": tries(),
        "no_new_privileges": "NoNewPrivs:\\t1" in pathlib.Path("/proc/self/status").read_text(),
    }
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(json.dumps(seen).encode())
"""


def make_slot(folder: Path) -> None:
    """Fill `folder` with `weights/` and `engine/`; `os/debian-12/` is the caller's."""
    (folder / "weights" / "target").mkdir(parents=True)
    wheels = folder / "engine" / "wheels"
    wheels.mkdir(parents=True)
    digest = _make_wheel(wheels / "vllm-0.0.1-py3-none-any.whl")
    (folder / "engine" / "requirements.lock").write_text(f"vllm==0.0.1 \\\n    --hash=sha256:{digest}\n")


def _make_wheel(path: Path) -> str:
    files = {
        "vllm_stand_in.py": PROGRAM,
        "vllm-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 0.0.1\n",
        "vllm-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "vllm-0.0.1.dist-info/entry_points.txt": "[console_scripts]\nvllm = vllm_stand_in:main\n",
    }
    record = "".join(f"{name},sha256={_urlsafe(content)},{len(content)}\n" for name, content in files.items())
    record_name = "vllm-0.0.1.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in {**files, record_name: f"{record}{record_name},,\n"}.items():
            wheel.writestr(zipfile.ZipInfo(name), content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _urlsafe(content: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
