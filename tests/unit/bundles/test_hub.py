from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext
from bundles.sources.hub import HubSource
from bundles.transfer import silent
from tests.support.small_bundles import safetensors_bytes

COMMIT = "c0ffee" * 6 + "abcd"
FILES = {
    "params.json": b'{"dim": 1}',
    "consolidated.safetensors": safetensors_bytes(b"x" * 5000),
    "README.md": b"hello",
    "evil.bin": b"pickle",
}


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub as huggingface-hub asks for: a listing, and files with their digests."""

    damaged: ClassVar[set[str]] = set()
    fetched: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == f"/api/models/owner/model/tree/{COMMIT}":
            listing = [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in FILES.items()]
            self._send(json.dumps(listing).encode(), {"Content-Type": "application/json"}, body=body)
            return
        name = path.removeprefix(f"/owner/model/resolve/{COMMIT}/")
        content = FILES.get(name)
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()  # noqa: S324  git's id
        if body:
            self.fetched.append(name)
        if name in self.damaged:
            content = content[:-1] + b"!"
        self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

    def _send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeHub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    FakeHub.damaged, FakeHub.fetched = set(), []
    yield FakeHub
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(folder: Path, **table: object) -> dict[str, bytes]:
    into = folder / "into"
    into.mkdir(exist_ok=True)
    context = SourceContext(recipe_folder=folder, cache=folder / "cache", progress=silent)
    whole = {"kind": "hub", "repository": "owner/model", "revision": COMMIT, **table}
    HubSource(whole, context).fetch(into)
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def test_the_hub_gives_the_chosen_files_at_one_commit(tmp_path: Path, hub: type[FakeHub]) -> None:
    found = fetch(tmp_path, include=["params.json", "consolidated*.safetensors"])

    assert found == {name: FILES[name] for name in ("params.json", "consolidated.safetensors")}
    assert "evil.bin" not in hub.fetched


def test_a_second_build_downloads_nothing_again(tmp_path: Path, hub: type[FakeHub]) -> None:
    fetch(tmp_path, include=["*.safetensors"])
    hub.fetched.clear()

    fetch(tmp_path, include=["*.safetensors"])

    assert hub.fetched == []


def test_a_file_that_is_not_what_the_hub_names_is_refused_and_leaves_the_cache(
    tmp_path: Path, hub: type[FakeHub]
) -> None:
    hub.damaged.add("consolidated.safetensors")

    with pytest.raises(SourceFailed, match="the hub names"):
        fetch(tmp_path, include=["*.safetensors"])

    assert list((tmp_path / "into").iterdir()) == []
    hub.damaged.clear()
    assert fetch(tmp_path, include=["*.safetensors"])


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("include", [["*.bin"], ["nothing*"]])
def test_what_weights_may_not_hold_or_does_not_exist_is_refused(tmp_path: Path, include: list[str]) -> None:
    with pytest.raises(SourceFailed):
        fetch(tmp_path, include=include)


@pytest.mark.usefixtures("hub")
def test_a_commit_that_the_hub_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed):
        fetch(tmp_path, revision="0" * 40)


@pytest.mark.parametrize(
    "table", [{"revision": "main"}, {"revision": COMMIT[:12]}, {"repository": "../x"}, {"include": "*.json"}]
)
def test_a_table_that_could_mean_other_files_tomorrow_is_refused(tmp_path: Path, table: dict[str, object]) -> None:
    with pytest.raises(RecipeInvalid):
        fetch(tmp_path, **table)
