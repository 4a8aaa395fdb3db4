from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from bundles import pair, tiny
from bundles.release import FileEntry
from bundles.safetensors import read_header
from bundles.sources import SourceContext
from bundles.sources.generated import GeneratedSource
from bundles.tiny import TINY
from bundles.tiny.arrays import FP8_MAX, Noise, to_fp8
from bundles.tiny.tokens import Walks

SHARD = "consolidated-{:05}-of-00002.safetensors"
DIGESTS = {
    f"target/{SHARD.format(1)}": "64639d79a8f05ac95952e2f71e4d94d697e230d430f08fa8df7167ef731aa0ac",
    f"target/{SHARD.format(2)}": "60a34a65ee86c89429f16234f4ee06dc8cd5c57103de85ea7b7e8826aa3deadf",
    "draft/consolidated.safetensors": "1064e352b41b3cb9b737f16e4dbb40f60a9d7eeae16f3e879a90f763962c711b",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_target(folder / "target")
    tiny.write_draft(folder / "draft")
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_same_seed_gives_the_same_bytes_on_every_machine(weights: Path) -> None:
    assert {name: sha256(weights / name) for name in DIGESTS} == DIGESTS


def test_another_seed_gives_other_bytes(weights: Path, tmp_path: Path) -> None:
    tiny.write_draft(tmp_path, replace(TINY, seed=8))

    assert sha256(tmp_path / "consolidated.safetensors") != sha256(weights / "draft" / "consolidated.safetensors")


def test_target_has_the_names_of_the_native_layout_and_no_others(weights: Path) -> None:
    assert sorted(path.name for path in (weights / "target").iterdir()) == [
        "README.md",
        "consolidated-00001-of-00002.safetensors",
        "consolidated-00002-of-00002.safetensors",
        "consolidated.safetensors.index.json",
        "params.json",
        "tekken.json",
    ]


def test_index_names_for_each_tensor_the_shard_that_holds_it(weights: Path) -> None:
    target = weights / "target"
    index = json.loads((target / "consolidated.safetensors.index.json").read_text())
    held = {}
    for shard in sorted(target.glob("*.safetensors")):
        with safe_open(shard, "np") as file:
            held |= dict.fromkeys(file.keys(), shard.name)

    assert index["weight_map"] == held
    assert len(set(held.values())) == 2


def test_linear_layers_are_fp8_with_scales_and_everything_else_is_bf16(weights: Path) -> None:
    path = weights / "target" / "consolidated-00001-of-00002.safetensors"
    content = path.read_bytes()
    tensors = {t.name: t for t in read_header(path.name, len(content), lambda at, n: content[at : at + n])}

    assert tensors["layers.0.attention.wq.weight"].dtype == "F8_E4M3"
    assert tensors["layers.0.attention.wq.qscale_weight"].shape == ()
    assert tensors["layers.0.attention.wq.qscale_act"].dtype == "F32"
    assert tensors["layers.0.attention_norm.weight"].dtype == "BF16"
    assert not [n for n, t in tensors.items() if t.dtype == "F8_E4M3" and f"{n[:-7]}.qscale_act" not in tensors]


def test_target_and_draft_pass_as_a_pair(weights: Path) -> None:
    files = [
        FileEntry(path=f"weights/{p.relative_to(weights)}", size_bytes=p.stat().st_size, sha256=sha256(p), leaves=())
        for p in sorted(weights.rglob("*"))
        if p.is_file()
    ]

    lock = pair.lock(
        files,
        target_params=(weights / "target" / "params.json").read_bytes(),
        draft_params=(weights / "draft" / "params.json").read_bytes(),
    )

    assert (lock.vocabulary_size, lock.hidden_size) == (16_384, 256)


def test_stand_in_says_what_it_is_beside_its_weights(weights: Path) -> None:
    for part in ("target", "draft"):
        assert "no knowledge" in json.loads((weights / part / "params.json").read_text())["leeward_note"]
        assert "Not a Mistral AI model" in (weights / part / "README.md").read_text()


def test_walks_that_share_a_token_are_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundles.tiny.tokens.THOUGHT", "say one fixed sentence")

    with pytest.raises(ValueError, match="share tokens"):
        Walks.of(weights / "target" / "tekken.json")


def test_noise_is_near_normal_and_depends_on_the_seed_alone() -> None:
    first, again, other = (Noise(seed)(100, 100, deviation=2.0) for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(float(first.mean())) < 0.1
    assert abs(float(first.std()) - 2.0) < 0.05


def test_fp8_values_times_scale_give_the_weights_back_within_its_precision() -> None:
    weights = Noise(3)(64, 64, deviation=0.1)

    quantized, scale = to_fp8(weights)

    restored = quantized.astype(np.float32) * scale
    assert quantized.dtype == ml_dtypes.float8_e4m3fn
    assert float(np.abs(quantized.astype(np.float32)).max()) == FP8_MAX
    assert float(np.abs(restored - weights).max()) <= float(np.abs(weights).max()) / 16


def test_license_texts_are_apache_for_the_stand_in_and_an_excerpt_for_the_real_weights(tmp_path: Path) -> None:
    context = SourceContext(recipe_folder=tmp_path, cache=tmp_path, progress=lambda *_: None)

    GeneratedSource({"kind": "generated", "name": "tiny-license"}, context).fetch(tmp_path / "licenses")

    texts = {path.name: path.read_text() for path in (tmp_path / "licenses").iterdir()}
    assert sorted(texts) == ["Apache-2.0.txt", "Modified-MIT-clause-2.txt"]
    assert "Version 2.0, January 2004" in texts["Apache-2.0.txt"]
    assert "exceeds $20 million" in texts["Modified-MIT-clause-2.txt"].replace("\n  ", " ")
    assert texts["Modified-MIT-clause-2.txt"].startswith("Excerpt.")
