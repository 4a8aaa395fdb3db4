"""The main job from end to end, as a person would do it: the CLI on both sides of the gap.

`make demo` tells this story; `test_journey.py` asserts on it. Nothing here reaches into the product:
every step is a command that the admin guide shows, run on the build host or, over ssh, on the node.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bundles.keys import Keyring
from bundles.publish import publish
from tests.lab import Lab, Node
from tests.support import small_bundles

CHECKOUT = Path(__file__).resolve().parents[2]
RECIPE = CHECKOUT / "bundles/recipes/tiny.toml"
MEDIUM = "/media/leeward"
SIMULATED_GPUS = '[simulation]\nnvml = "/opt/leeward-lab/libnvidia-ml.so.1"\n'
GATEWAY_PORT = 8443
ATTESTATION = (
    "--legal-entity", "Example AG",
    "--signatory", "Jo Doe",
    "--role", "CFO",
    "--attest-band", "under-50-percent",
)  # fmt: skip
QUESTION = "Who are you?"
ASK = """
import json, sys
import openai

base_url, key, question = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=key, timeout=120, max_retries=0)
models = [model.id for model in client.models.list()]
text, usage = "", None
stream = client.chat.completions.create(
    model=models[0],
    messages=[{"role": "user", "content": question}],
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        text += chunk.choices[0].delta.content
    if chunk.usage:
        usage = chunk.usage
request_id = stream.response.headers["x-request-id"]
print(json.dumps({"models": models, "id": request_id, "text": text, "usage": usage.model_dump()}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the build printed; the two fingerprints are what goes on paper."""

    size_bytes: int
    files: int
    slot: str
    root_fingerprint: str
    bootstrap_fingerprint: str


class CommandRefused(AssertionError):
    """A command of the journey ended otherwise than the journey expects."""


@dataclass(kw_only=True)
class Journey:
    """One walk from recipe to evidence; `times` holds the seconds of each part."""

    root: Path
    times: dict[str, float] = field(default_factory=dict)

    @cached_property
    def lab(self) -> Lab:
        return Lab(self.root / "lab")

    @cached_property
    def node(self) -> Node:
        return self.lab.create("n1")

    @property
    def bundle(self) -> Path:
        return self.root / "medium"

    @property
    def keys(self) -> Path:
        return self.root / "publisher-keys"

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.times[name] = time.monotonic() - begun

    def leeward(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the CLI on this machine, which stands for the build host and the auditor's laptop."""
        return run([str(Path(sys.executable).with_name("leeward")), *arguments], check=check)

    # -- the connected side ------------------------------------------------------------------

    def build(self) -> Report:
        """Build and sign the tiny release."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.timed("build"):
            if not self.keys.exists():
                self.leeward("bundle", "keys", "init", "--plain", str(self.keys))
            result = self.leeward(
                "bundle", "build", str(RECIPE), "--out", str(self.bundle), "--keys", str(self.keys),
                "--cache", str(CHECKOUT / ".cache"), "--json",
            )  # fmt: skip
        said = [json.loads(line) for line in result.stdout.splitlines()]
        bundle = next(each for each in said if each["event"] == "bundle")
        paper = {each["of"]: each["sha256"] for each in said if each["event"] == "fingerprint"}
        return Report(
            size_bytes=bundle["size_bytes"], files=bundle["files"], slot=bundle["slot"],
            root_fingerprint=paper["root"], bootstrap_fingerprint=paper["bootstrap"],
        )  # fmt: skip

    def older_bundle(self) -> Path:
        """Publish a small release of a lower epoch with the same publisher's keys."""
        out = self.root / "older"
        shutil.rmtree(out, ignore_errors=True)
        release = small_bundles.blank_release(epoch=1, version="26.10.0")
        publish(small_bundles.tree(), release, Keyring.load(self.keys), out=out)
        return out

    def damaged_bundle(self) -> Path:
        """Copy the medium with one bit of the target's first shard flipped."""
        out = self.root / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.bundle, out, copy_function=os.link)
        manifest = json.loads(next((out / "targets").iterdir()).read_text())
        shard = next(each for each in manifest["files"] if each["path"].startswith("weights/target/consolidated-"))
        part = out / "blobs" / f"{shard['sha256']}.p000"
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.unlink()
        part.write_bytes(content)
        return out

    # -- the node ----------------------------------------------------------------------------

    def raise_node(self) -> None:
        """Make the node, start it, and mount the medium as sites do: read-only, noexec."""
        with self.timed("node"):
            self.lab.sweep(everything=True)
            self.node.up()
            self.lab.install_mock_nvml(self.node)
            self.node.ssh("mkdir -p /etc/leeward && cat > /etc/leeward/leeward.toml", input=SIMULATED_GPUS)
            self.node.attach_medium(self.bundle, at=MEDIUM)

    def import_from(self, bundle: Path) -> subprocess.CompletedProcess[str]:
        """Swap the medium for another one and try to import from it."""
        self.node.detach_medium()
        self.node.attach_medium(bundle, at=MEDIUM)
        return self.node.ssh(f"leeward import --medium {MEDIUM}", check=False)

    def slots(self) -> str:
        """Return the names of the slots and which one is current."""
        return str(self.node.ssh("ls /var/lib/leeward/slots; readlink /var/lib/leeward/slots/current").stdout)

    def routes(self) -> str:
        """Return what `ip route show default` prints on the node, both families."""
        return str(self.node.ssh("ip -4 route show default; ip -6 route show default").stdout)

    def bootstrap(self, fingerprint: str) -> str:
        """Day 0: copy, compare with the paper, run the copy."""
        with self.timed("bootstrap"):
            self.node.ssh(f"cp {MEDIUM}/bootstrap /root/bootstrap")
            seen = self.node.ssh("sha256sum /root/bootstrap").stdout.split()[0]
            if seen != fingerprint:
                raise CommandRefused(f"bootstrap has SHA-256 {seen}, the paper says {fingerprint}")
            return str(self.node.ssh(f"sh /root/bootstrap --no-console {MEDIUM}").stdout)

    def install(self) -> list[dict[str, Any]]:
        """Run the install operation to its end; returns its event records."""
        with self.timed("install"):
            result = self.node.ssh(f"leeward install --medium {MEDIUM} {quoted(ATTESTATION)} --json", check=False)
        if result.returncode != 0:
            raise CommandRefused(
                f"leeward install exited {result.returncode}:\n{result.stdout[-4000:]}\n{result.stderr}"
            )
        return [json.loads(line) for line in result.stdout.splitlines()]

    def usage(self, request_id: str) -> list[dict[str, Any]]:
        """Return every ledger row of one request."""
        lines = self.node.ssh("leeward usage --json").stdout.splitlines()
        return [row["record"] for row in map(json.loads, lines) if row["record"]["request_id"] == request_id]

    def on_node(self, *arguments: str) -> dict[str, Any]:
        """Run `leeward ... --json` on the node and return the last JSON line."""
        return last_json(self.node.ssh(f"leeward {quoted(arguments)} --json").stdout)

    # -- the people who use it ---------------------------------------------------------------

    def ask(self, question: str = QUESTION) -> dict[str, Any]:
        """Ask through the gateway with the real openai SDK, from a machine beside the node."""
        key = self.on_node("key", "create", "--team", "demo", "--name", "journey")["secret"]
        certificate = self.root / "gateway.crt"
        self.node.copy_from("/etc/leeward/tls/server.crt", certificate)
        with self.timed("ask"):
            result = run(
                [
                    *self.node.exec_prefix, sys.executable, "-c", ASK,
                    f"https://{self.node.address}:{GATEWAY_PORT}/v1", key, question,
                ],
                environment={"SSL_CERT_FILE": str(certificate)},
            )  # fmt: skip
        return last_json(result.stdout)

    def beside_node(self, script: str, *arguments: str) -> str:
        """Run a Python script on a machine beside the node."""
        return run([*self.node.exec_prefix, sys.executable, "-c", script, *arguments]).stdout

    def export_evidence(self) -> tuple[Path, str]:
        """Export evidence on the node and carry it here; returns the folder and its root's fingerprint."""
        with self.timed("evidence"):
            export = self.on_node("export", "evidence", "--out", "/var/lib/leeward/exports")
            here = self.root / "evidence"
            shutil.rmtree(here, ignore_errors=True)
            self.node.copy_from(export["bundle"], here)
        return here, export["root_fingerprint"]

    # -- a real terminal ---------------------------------------------------------------------

    def photograph(self, screen: str, *, until: str) -> list[Path]:
        """Render the console, run over ssh in a real terminal, at both sizes; returns the pictures."""
        pictures = []
        for size, environment in (("120x36", "COLORTERM=truecolor LANG=C.UTF-8"), ("80x24", "LANG=C")):
            picture = self.root / "img" / f"{screen}-{size}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            login = self.node.shell.argv(f"{environment} leeward-console")
            at = login.index("ssh") + 1
            run([
                sys.executable, "-m", "tests.support.terminal", "--size", size, "--until", until, "--png", str(picture),
                "--", *login[:at], "-tt", *login[at:],
            ])  # fmt: skip
            pictures.append(picture)
        return pictures

    def wait_for_tasks(self, count: int, *, timeout_s: float = 900) -> None:
        """Wait until the running operation has that many tasks of its playbook behind it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            views = self.node.ssh("leeward operations --json", check=False).stdout.splitlines()
            tasks = json.loads(views[0])["task_counts"] if views else {}
            if sum(tasks.get(outcome, 0) for outcome in ("ok", "changed", "skipped")) >= count:
                return
            time.sleep(2)
        raise CommandRefused(f"the playbook has not come to its task {count} after {timeout_s:.0f} s")

    def close(self) -> None:
        """Take the node down and everything that the lab made with it."""
        self.lab.destroy()


def run(
    command: list[str], *, check: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=CHECKOUT, env={**os.environ, **(environment or {})}
    )
    if check and result.returncode != 0:
        raise CommandRefused(
            f"{command[:4]}... exited {result.returncode}:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        )
    return result


def last_json(text: str) -> dict[str, Any]:
    return dict(json.loads(text.strip().splitlines()[-1]))


def quoted(arguments: tuple[str, ...]) -> str:
    return shlex.join(arguments)
