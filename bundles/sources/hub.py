"""A model repository on the Hugging Face hub, at one commit.

    source = { kind = "hub", repository = "mistralai/...", revision = "<40 hex>", include = ["*.json"] }

A branch name would mean other files tomorrow, so only a full commit is taken. Files stay in the
cache (`cache/hub`), downloads resume there, and staging gets hard links where it can. The hub names
large files by their SHA-256; each is hashed here and compared. Endpoint and token come from the
environment (`HF_ENDPOINT`, `HF_TOKEN`), never from a recipe.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from bundles.digest import is_sha256_hex
from bundles.errors import LeewardError, RecipeInvalid, SourceFailed
from bundles.manifest import check_path
from bundles.sources import SourceContext, text, texts

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_DEFAULT_INCLUDE = ("*.safetensors", "*.json", "*.txt", "*.jinja")


class HubSource:
    """Downloads the chosen files of one repository at one commit."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._repository = text(table, "repository")
        self._revision = text(table, "revision")
        self._include = texts(table, "include", _DEFAULT_INCLUDE)
        self._cache = context.cache / "hub"
        self._progress = context.progress
        if not _REPOSITORY.fullmatch(self._repository):
            raise RecipeInvalid(
                detail=f"repository {self._repository!r} is not OWNER/NAME", remedy="Correct it in the recipe."
            )
        if not _COMMIT.fullmatch(self._revision):
            raise RecipeInvalid(
                detail=f"revision {self._revision!r} of {self._repository} is not a commit of 40 hexadecimal digits",
                remedy="Look up the commit on the hub (Files and versions, History) and write all 40 digits.",
            )

    def fetch(self, into: Path) -> None:
        """Download and link into place. Raises SourceFailed."""
        from httpx2 import HTTPError  # noqa: PLC0415  huggingface-hub's own client; the reason is the next line's
        from huggingface_hub import HfApi, hf_hub_download  # noqa: PLC0415  only build hosts have it, and it is slow
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415  the same

        endpoint = os.environ.get("HF_ENDPOINT") or None
        try:
            listed = HfApi(endpoint=endpoint).list_repo_files(self._repository, revision=self._revision)
            chosen = self._chosen(listed)
            for count, path in enumerate(chosen, start=1):
                self._progress(f"{self._repository}: {path}", count - 1, len(chosen))
                cached = hf_hub_download(
                    self._repository, path, revision=self._revision, cache_dir=self._cache, endpoint=endpoint
                )
                self._place(Path(cached), into / path)
                self._progress(f"{self._repository}: {path}", count, len(chosen))
        except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
            raise SourceFailed(
                detail=f"{self._repository} at {self._revision[:12]}: {error}",
                remedy="Check network, HF_TOKEN and the accepted licence; then build again, downloads resume.",
            ) from error

    def _chosen(self, listed: list[str]) -> list[str]:
        for glob in self._include:
            if not any(fnmatch.fnmatchcase(path, glob) for path in listed):
                raise SourceFailed(
                    detail=f"{self._repository} at {self._revision[:12]} has no file like {glob}",
                    remedy="Correct `include` in the recipe, or the revision.",
                )
        chosen = sorted(path for path in listed if any(fnmatch.fnmatchcase(path, glob) for glob in self._include))
        for path in chosen:
            try:
                check_path(f"weights/{path}")
            except LeewardError as error:
                raise SourceFailed(detail=error.detail, remedy="Narrow `include` to safetensors and texts.") from error
        return chosen

    @staticmethod
    def _place(cached: Path, target: Path) -> None:
        blob = cached.resolve()
        if is_sha256_hex(blob.name):  # a large file: the cache names it by what the hub says is its SHA-256
            with blob.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != blob.name:
                blob.unlink()
                raise SourceFailed(
                    detail=f"{target.name} was downloaded with SHA-256 {found}; the hub names {blob.name}",
                    remedy="Build again: the damaged file was removed from the cache.",
                )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(blob, target)
        except OSError:
            shutil.copyfile(blob, target)
