"""Whether a draft head belongs to its target, from the two params.json and the headers of the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundles import pair
from bundles.errors import LeewardError, PairMismatch, ReleaseInvalid
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.pair import DRAFT_PARAMS, TARGET_PARAMS
from bundles.release import EngineRelease, PairLock, Release, release_to_bytes
from tests.support.small_bundles import blank_release, tree, write_bundle
from tests.unit.bundles.site import Site, canonical, resign

PARAMS: dict[str, Any] = {
    "dim": 8,
    "vocab_size": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 512,
    "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
}
SIZES = {"F8_E4M3": 1, "F8_E5M2": 1, "BF16": 2, "F32": 4}
TARGET_TENSORS: dict[str, tuple[str, list[int]]] = {
    "tok_embeddings.weight": ("BF16", [16, 8]),
    "output.weight": ("BF16", [16, 8]),
    "layers.0.attention.wq.weight": ("F8_E4M3", [16, 8]),
    "layers.0.attention.wq.qscale_weight": ("F32", []),
    "layers.0.attention.wq.qscale_act": ("F32", []),
}
DRAFT_TENSORS: dict[str, tuple[str, list[int]]] = {
    "eagle_linear.weight": ("F8_E4M3", [8, 16]),
    "eagle_linear.qscale_weight": ("F32", []),
    "eagle_linear.qscale_act": ("F32", []),
}
TARGET, DRAFT = "weights/target/consolidated.safetensors", "weights/draft/consolidated.safetensors"


def weights(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def files(**others: bytes) -> dict[str, bytes]:
    """Return a release whose pair belongs together; `others` by short names replace files of it."""
    both = json.dumps(PARAMS).encode()
    names = {"target_params": TARGET_PARAMS, "draft_params": DRAFT_PARAMS, "target": TARGET, "draft": DRAFT}
    own = {TARGET_PARAMS: both, DRAFT_PARAMS: both, TARGET: weights(TARGET_TENSORS), DRAFT: weights(DRAFT_TENSORS)}
    return tree() | own | {names.get(name, name): content for name, content in others.items()}


def params(**changed: object) -> bytes:
    return json.dumps({name: value for name, value in (PARAMS | changed).items() if value is not None}).encode()


def refused(folder: Path, keyring: Keyring, error: type[LeewardError], **others: bytes) -> str:
    """Build, see the refusal, and see that there is no bundle."""
    with pytest.raises(error) as caught:
        write_bundle(folder / "medium", keyring, files=files(**others))

    assert not (folder / "medium").exists()
    assert caught.value.remedy
    return caught.value.detail


def test_the_lock_records_what_binds_the_pair(tmp_path: Path, keyring: Keyring) -> None:
    release = write_bundle(tmp_path / "medium", keyring, files=files()).release

    assert release.pair is not None
    assert (release.pair.hidden_size, release.pair.vocabulary_size) == (8, 16)
    assert release.pair.quantization == "fp8_e4m3, static"
    assert release.pair.tokenizer_sha256 == release.file("weights/target/tekken.json").sha256
    assert (release.pair.target_context, release.pair.draft_context) == (512, 512)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dim": 9}, "dim: the target has 8, the draft head 9"),
        ({"vocab_size": 17}, "vocab_size: the target has 16, the draft head 17"),
        ({"n_heads": 5}, "n_heads: the target has 4, the draft head 5"),
        ({"n_kv_heads": 1}, "n_kv_heads: the target has 2, the draft head 1"),
        ({"head_dim": None}, "head_dim: the target has 4, the draft head None"),
        ({"quantization": None}, "quantization: the target has fp8_e4m3, static, the draft head none"),
        (
            {"quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "NO_SCALES"}},
            "quantization: the target has fp8_e4m3, static, the draft head fp8_e4m3, dynamic",
        ),
    ],
)
def test_a_head_for_another_target_is_refused_with_the_field(
    tmp_path: Path, keyring: Keyring, changed: dict[str, object], told: str
) -> None:
    assert refused(tmp_path, keyring, PairMismatch, draft_params=params(**changed)) == told


def test_a_head_with_another_tokenizer_is_refused(tmp_path: Path, keyring: Keyring) -> None:
    detail = refused(tmp_path, keyring, PairMismatch, **{"weights/draft/tekken.json": b'{"other":1}'})

    assert detail.startswith("tekken.json: the target has ")
    assert write_bundle(tmp_path / "same", keyring, files=files(**{"weights/draft/tekken.json": b"{}"})).files == 9


@pytest.mark.parametrize("content", [b"[]", b"7", b'"dim"', params(dim="8"), params(dim=1 << 41), params(vocab_size=0)])
def test_params_that_say_nothing_usable_are_refused(tmp_path: Path, keyring: Keyring, content: bytes) -> None:
    assert DRAFT_PARAMS in refused(tmp_path, keyring, ReleaseInvalid, draft_params=content)


@pytest.mark.parametrize(
    "quantization", [{"qformat_weight": "int4"}, {"qformat_weight": "fp8_e4m3", "qscheme_act": "ROW"}, "fp8", [1]]
)
def test_a_number_format_that_the_engine_does_not_take_is_refused(
    tmp_path: Path, keyring: Keyring, quantization: object
) -> None:
    wrong = params(quantization=quantization)

    assert "quantization" in refused(tmp_path, keyring, ReleaseInvalid, target_params=wrong, draft_params=wrong)


@pytest.mark.parametrize(
    "name", ["config.json", "model-00001-of-00003.safetensors", "tokenizer.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("folder", ["weights/target/", "weights/draft/"])
def test_a_second_layout_beside_the_native_one_is_refused(
    tmp_path: Path, keyring: Keyring, folder: str, name: str
) -> None:
    content = weights({}) if name.endswith(".safetensors") else b"{}"

    assert name in refused(tmp_path, keyring, ReleaseInvalid, **{folder + name: content})


@pytest.mark.parametrize("name", ["weights/target/tekken.json", DRAFT, TARGET])
def test_a_model_without_weights_or_tokenizer_is_refused(tmp_path: Path, keyring: Keyring, name: str) -> None:
    incomplete = {path: content for path, content in files().items() if path != name}

    with pytest.raises(ReleaseInvalid):
        write_bundle(tmp_path / "medium", keyring, files=incomplete)

    assert not (tmp_path / "medium").exists()


@pytest.mark.parametrize(
    ("whose", "name", "tensor", "told"),
    [
        ("target", "tok_embeddings.weight", ("BF16", [15, 8]), "has shape [15, 8]; the lock means [16, 8]"),
        ("target", "output.weight", ("BF16", [16, 9]), "has shape [16, 9]; the lock means [16, 8]"),
        ("draft", "eagle_linear.weight", ("F8_E4M3", [8, 8]), "has shape [8, 8]; the lock means [8, 16]"),
        ("draft", "tok_embeddings.weight", ("BF16", [16, 4]), "has shape [16, 4]; the lock means [16, 8]"),
        ("target", "layers.0.attention.wq.qscale_weight", None, "has no layers.0.attention.wq.qscale_weight beside it"),
        ("draft", "eagle_linear.qscale_act", None, "has no eagle_linear.qscale_act beside it"),
        ("target", "layers.0.attention.wq.weight", ("F8_E5M2", [16, 8]), "is F8_E5M2, not F8_E4M3"),
    ],
)
def test_weights_that_contradict_the_lock_are_refused(  # noqa: PLR0917  one table of cases
    tmp_path: Path, keyring: Keyring, whose: str, name: str, tensor: tuple[str, list[int]] | None, told: str
) -> None:
    changed = dict(TARGET_TENSORS if whose == "target" else DRAFT_TENSORS)
    changed.pop(name, None)
    if tensor:
        changed[name] = tensor

    assert told in refused(tmp_path, keyring, PairMismatch, **{whose: weights(changed)})


def test_fp8_weights_whose_params_name_no_format_are_refused_and_many_faults_told_briefly(
    tmp_path: Path, keyring: Keyring
) -> None:
    plain = params(quantization=None)
    many = {f"layers.{number}.w.weight": ("F8_E4M3", [2, 2]) for number in range(9)}

    detail = refused(
        tmp_path,
        keyring,
        PairMismatch,
        target_params=plain,
        draft_params=plain,
        target=weights(many),
        draft=weights({}),
    )

    assert "the target's layers.0.w.weight is F8_E4M3, though params.json names no FP8" in detail
    assert detail.endswith("and 4 more")


def test_dynamic_scales_need_no_scale_of_activations(tmp_path: Path, keyring: Keyring) -> None:
    dynamic = params(quantization={"qformat_weight": "fp8_e4m3", "qscheme_act": "NO_SCALES"})
    without = {name: value for name, value in DRAFT_TENSORS.items() if not name.endswith("qscale_act")}

    report = write_bundle(
        tmp_path / "medium",
        keyring,
        files=files(target_params=dynamic, draft_params=dynamic, draft=weights(without)),
    )

    assert report.release.pair is not None
    assert report.release.pair.quantization == "fp8_e4m3, dynamic"


def test_import_refuses_weights_that_contradict_the_lock_even_when_signed(
    tmp_path: Path, keyring: Keyring, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = DRAFT_TENSORS | {"eagle_linear.weight": ("F8_E4M3", [8, 8])}
    with monkeypatch.context() as careless:  # a publisher whose build does not look
        careless.setattr(pair, "check_weights", lambda *_, **__: None)
        medium = write_bundle(tmp_path / "medium", keyring, files=files(draft=weights(wrong))).folder

    with pytest.raises(PairMismatch, match=r"eagle_linear\.weight has shape \[8, 8\]"):
        site.import_(medium)

    assert site.slots() == []
    assert site.policy is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantization", "none"),
        ("quantization", None),
        ("tokenizer_sha256", "0" * 64),
        ("tokenizer_sha256", None),
        ("target_context", 1 << 20),
        ("draft_context", None),
        ("hidden_size", 9),
        ("vocabulary_size", 9),
    ],
)
def test_import_refuses_a_signed_lock_that_the_files_contradict(
    tmp_path: Path, keyring: Keyring, site: Site, field: str, value: object
) -> None:
    medium = write_bundle(tmp_path / "medium", keyring, files=files()).folder
    release = peek(open_bundle(medium))
    resign(medium, canonical(locked(release, **{field: value})), keyring)

    with pytest.raises(PairMismatch, match=f"{field}: signed is {value}"):
        site.import_(medium)

    assert site.slots() == []
    assert len(site.stored()) <= 2  # the two params.json


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"version": "0.20.1"}, r"vLLM '0\.20\.1' does not serve this draft head"),
        ({"version": "1.0.0"}, "from 0.21 to below 1.0"),
        ({"version": "main"}, "'main' does not serve"),
        ({"max_model_len": 600}, "max_model_len is 600 tokens; the params.json of that model allow 512"),
        ({"draft_max_model_len": 513}, "draft_max_model_len is 513 tokens"),
    ],
)
def test_an_engine_that_cannot_draft_with_the_pair_is_refused(
    tmp_path: Path, keyring: Keyring, changed: dict[str, Any], told: str
) -> None:
    release = blank_release()
    assert release.engine is not None
    engine: EngineRelease = replace(release.engine, **changed)

    with pytest.raises(PairMismatch, match=told):
        write_bundle(tmp_path / "medium", keyring, release=replace(release, engine=engine), files=files())

    assert not (tmp_path / "medium").exists()


def test_an_engine_that_does_not_draft_may_be_of_any_version(tmp_path: Path, keyring: Keyring) -> None:
    release = blank_release()
    assert release.engine is not None
    engine = replace(release.engine, version="0.19.0", num_speculative_tokens=0)

    built = write_bundle(tmp_path / "medium", keyring, release=replace(release, engine=engine), files=files())

    assert release_to_bytes(built.release)


def locked(release: Release, **changed: Any) -> Release:  # noqa: ANN401  any field of the lock
    assert isinstance(release.pair, PairLock)
    return replace(release, pair=replace(release.pair, **changed))
