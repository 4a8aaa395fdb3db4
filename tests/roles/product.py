"""Leeward itself on a lab node, without a medium: the checkout's code and the packages that it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import structlog

from appliance.domain.preflight import Finding
from appliance.domain.wire import from_plain
from tests.lab import Node

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = "/opt/test"
DAEMON_AND_CLI = ("appliance.entrypoints.management", "appliance.entrypoints.cli")
_LATE = ("httpcore", "anyio._backends._asyncio", "httptools", "uvloop", "h11")
"""What libraries import only when they need it."""
_PACKAGES_OF = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print("\\n".join(sorted({file.split("site-packages/")[1].split("/")[0] for file in files if "site-packages/" in file})))
"""
_DAEMON = f"""\
[Service]
WorkingDirectory={FOLDER}
ExecStart=/usr/bin/python3 -c "from appliance.entrypoints.management import main; main()"
RuntimeDirectory=leeward
"""


def put_product(node: Node, *modules: str) -> None:
    """Put these modules below `FOLDER`, with all that they import; the node has its own Python and nothing else."""
    listed = subprocess.run(
        [sys.executable, "-c", _PACKAGES_OF, *modules, *_LATE], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    libraries = Path(structlog.__file__).parents[1]
    own = ["appliance", "bundles", "tests/__init__.py", "tests/roles/__init__.py", "tests/roles/reboot_daemon.py"]
    versions = [path.name for path in libraries.glob("*.dist-info")]  # some ask importlib.metadata for their own
    for folder, names in ((libraries, [*listed.stdout.split(), *versions]), (CHECKOUT, own)):
        tar = ["tar", "-C", str(folder), "--exclude=__pycache__", "--owner=0", "--group=0", "-cf", "-", *names]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as sender:
            receive = f"mkdir -p {FOLDER} && tar -C {FOLDER} -xf -"
            subprocess.run(node.shell.argv(receive), stdin=sender.stdout, check=True)
        assert sender.returncode == 0


def start_daemon(node: Node) -> None:
    """Start the management daemon, and wait until it answers; a unit of the product's own is left as it is."""
    node.ssh("cat > /run/systemd/system/checkout-leewardd.service && systemctl daemon-reload", input=_DAEMON)
    node.ssh("mkdir -p /var/lib/leeward/state && systemctl start checkout-leewardd")
    node.ssh("for try in $(seq 120); do [ -S /run/leeward/management.sock ] && break; sleep 1; done")


def leeward(node: Node, arguments: str) -> str:
    """Run the CLI on the node and return what it printed, whatever its exit status."""
    call = "from appliance.entrypoints.cli import main; main()"
    done = node.ssh(f"cd {FOLDER} && python3 -c '{call}' {arguments}", check=False)
    return str(done.stdout or done.stderr)


def facts(node: Node) -> dict[str, Any]:
    """Return what `leeward facts` says of the node, with nothing in it that tells which node it is."""
    said: dict[str, Any] = json.loads(leeward(node, "facts --json --redact"))
    return said


def findings(node: Node, *, medium: str) -> dict[str, Finding]:
    """Return what `leeward preflight` finds, by check."""
    said = leeward(node, f"preflight --json --medium {medium}")
    found = [from_plain(json.loads(line), Finding) for line in said.splitlines() if line.startswith("{")]
    assert found, said
    return {each.check: each for each in found}
