"""The lock between target and draft head.

An EAGLE head reuses its target's embeddings and repeats its decoder layers, so its `params.json` must
agree with the target's in width, vocabulary, attention and number format; with another target it
would still run, only with rejected drafts, which no error would show. Field names are those of
Mistral's native `params.json` and tensors as vLLM 0.32.0 reads them
(`vllm/transformers_utils/configs/mistral.py`, `model_executor/models/mistral_eagle.py`).

Both are compared at build and again at import: first the two `params.json`, before any weight is
copied; then the headers of the weights (`check_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

from bundles.codec import CodecError, parse_json
from bundles.digest import tree_digest
from bundles.errors import PairMismatch, ReleaseInvalid
from bundles.release import DRAFT_FOLDER, TARGET_FOLDER, FileEntry, PairLock
from bundles.safetensors import TensorEntry

TARGET_PARAMS = f"{TARGET_FOLDER}params.json"
DRAFT_PARAMS = f"{DRAFT_FOLDER}params.json"
TOKENIZER = "tekken.json"
MAX_PARAMS_BYTES = 1024 * 1024

WIDTH = "dim"
VOCABULARY = "vocab_size"
_SHARED = (WIDTH, VOCABULARY)
_ATTENTION = ("n_heads", "n_kv_heads", "head_dim")
_CONTEXT = "max_position_embeddings"
_DEFAULT_CONTEXT = 128_000
"""What vLLM takes where `params.json` says nothing."""
_FP8_SCHEMES: Mapping[object, str] = {None: "static", "TENSOR": "static", "NO_SCALES": "dynamic"}
"""`qscheme_act` to what vLLM makes of it; it refuses any other."""
_FP8 = "fp8_e4m3"
UNQUANTIZED = "none"
_SOURCE = "Take the file from its source again, in Mistral's native layout."
_OTHER_LAYOUT = frozenset({"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Params:
    """What one `params.json` says, as far as the pair depends on it."""

    numbers: Mapping[str, int]
    attention: Mapping[str, int | None]
    quantization: str
    context: int


def lock(files: Iterable[FileEntry], *, target_params: bytes, draft_params: bytes) -> PairLock:
    """Bind the draft head to the target.

    `target_params` and `draft_params` are the bytes of the two `params.json`. Raises PairMismatch
    with every differing field, ReleaseInvalid where a `params.json` cannot be read, a model is not
    in Mistral's native layout alone, or has no tokenizer.
    """
    target = _read(TARGET_PARAMS, target_params)
    draft = _read(DRAFT_PARAMS, draft_params)
    listed = {entry.path: entry.sha256 for entry in files}
    tokenizer = listed.get(f"{TARGET_FOLDER}{TOKENIZER}")
    own = listed.get(f"{DRAFT_FOLDER}{TOKENIZER}", tokenizer)
    differing = [*_differing(target, draft)]
    if own != tokenizer:
        differing.append(f"{TOKENIZER}: the target has {tokenizer}, the draft head {own}")
    if differing:
        raise PairMismatch(
            detail="; ".join(differing),
            remedy="Take the draft head that was published for this target, then build the release again.",
        )
    for folder in (TARGET_FOLDER, DRAFT_FOLDER):
        _check_layout(folder, listed)
    if tokenizer is None:
        raise _invalid(f"{TARGET_FOLDER}{TOKENIZER} is missing")
    return PairLock(
        target_digest=tree_digest(file for file in listed.items() if file[0].startswith(TARGET_FOLDER)),
        draft_digest=tree_digest(file for file in listed.items() if file[0].startswith(DRAFT_FOLDER)),
        vocabulary_size=target.numbers[VOCABULARY],
        hidden_size=target.numbers[WIDTH],
        quantization=target.quantization,
        tokenizer_sha256=tokenizer,
        target_context=target.context,
        draft_context=draft.context,
    )


def check(files: Iterable[FileEntry], signed: PairLock, *, target_params: bytes, draft_params: bytes) -> None:
    """Check the signed lock against the two `params.json`; raises what `lock` raises, and PairMismatch."""
    found = lock(files, target_params=target_params, draft_params=draft_params)
    if found != signed:
        told = [
            f"{field.name}: signed is {getattr(signed, field.name)}, the files say {getattr(found, field.name)}"
            for field in fields(PairLock)
            if getattr(signed, field.name) != getattr(found, field.name)
        ]
        raise PairMismatch(
            detail=f"the lock differs from the files: {'; '.join(told)}",
            remedy="Do not import this bundle. The publisher must build the release again.",
        )


def check_weights(
    files: Iterable[FileEntry], signed: PairLock, *, header: Callable[[FileEntry], tuple[TensorEntry, ...]]
) -> None:
    """Check the weights' headers against the lock; `header` reads a file's.

    Raises what `header` and `check_tensors` raise.
    """
    weights = [entry for entry in files if entry.path.endswith(".safetensors")]
    check_tensors(
        signed,
        target=[tensor for entry in weights if entry.path.startswith(TARGET_FOLDER) for tensor in header(entry)],
        draft=[tensor for entry in weights if entry.path.startswith(DRAFT_FOLDER) for tensor in header(entry)],
    )


def check_tensors(signed: PairLock, *, target: Iterable[TensorEntry], draft: Iterable[TensorEntry]) -> None:
    """Check the headers of both models' weights against the lock.

    A tensor that a model lacks is not missed here: the engine refuses that loudly. Raises
    PairMismatch with every tensor that contradicts the lock.
    """
    rows = (signed.vocabulary_size, signed.hidden_size)
    shapes = {
        "the target": {"tok_embeddings.weight": rows, "output.weight": rows},
        "the draft head": {
            "tok_embeddings.weight": rows,
            "output.weight": rows,
            "eagle_linear.weight": (signed.hidden_size, 2 * signed.hidden_size),
        },
    }
    told: list[str] = []
    for whose, tensors in (("the target", target), ("the draft head", draft)):
        known = {tensor.name: tensor for tensor in tensors}
        for name, shape in shapes[whose].items():
            found = known.get(name)
            if found is not None and found.shape != shape:
                told.append(f"{whose}'s {name} has shape {list(found.shape)}; the lock means {list(shape)}")
        told += [f"{whose}'s {fault}" for fault in _format_faults(signed.quantization, known)]
    if told:
        more = f" and {len(told) - 5} more" if len(told) > 5 else ""  # noqa: PLR2004  enough to see the pattern
        raise PairMismatch(
            detail="; ".join(told[:5]) + more,
            remedy="Take both models from their sources again, at the revisions that belong together.",
        )


def _format_faults(quantization: str | None, known: Mapping[str, TensorEntry]) -> Iterable[str]:
    """Tell what contradicts the number format that `params.json` names."""
    eights = [name for name, tensor in known.items() if tensor.dtype.startswith("F8_")]
    if quantization is None or not quantization.startswith(_FP8):
        yield from (f"{name} is {known[name].dtype}, though params.json names no FP8" for name in eights)
        return
    needed = ["qscale_weight"] + (["qscale_act"] if quantization.endswith("static") else [])
    for name in eights:
        if known[name].dtype != "F8_E4M3":
            yield f"{name} is {known[name].dtype}, not F8_E4M3"
        base = name.removesuffix("weight")
        yield from (f"{name} has no {base}{scale} beside it" for scale in needed if f"{base}{scale}" not in known)


def _differing(target: _Params, draft: _Params) -> Iterable[str]:
    for field in target.numbers:
        if target.numbers[field] != draft.numbers[field]:
            yield f"{field}: the target has {target.numbers[field]:,}, the draft head {draft.numbers[field]:,}"
    for field in _ATTENTION:
        both = (target.attention[field], draft.attention[field])
        if both[0] != both[1]:
            yield f"{field}: the target has {both[0]}, the draft head {both[1]}"
    if target.quantization != draft.quantization:
        yield f"quantization: the target has {target.quantization}, the draft head {draft.quantization}"


def _check_layout(folder: str, listed: Mapping[str, str]) -> None:
    """Check that a model is there in Mistral's native layout, and not in another one as well."""
    names = [path.removeprefix(folder) for path in listed if path.startswith(folder)]
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        raise _invalid(f"there are no weights below {folder}")
    others = sorted(name for name in weights if not name.startswith("consolidated"))
    others += sorted(_OTHER_LAYOUT.intersection(names))
    if others:
        raise _invalid(f"{folder} holds files of another layout than Mistral's native one: {', '.join(others[:5])}")


def _read(name: str, content: bytes) -> _Params:
    try:
        plain = parse_json(content)
        if not isinstance(plain, dict):
            raise CodecError("it is not an object")  # noqa: TRY301  one place says how a fault is told
        return _Params(
            numbers={field: _number(plain, field) for field in _SHARED},
            attention={field: _number(plain, field) if field in plain else None for field in _ATTENTION},
            quantization=_quantization(plain.get("quantization")),
            context=_number({_CONTEXT: _DEFAULT_CONTEXT, **plain}, _CONTEXT),
        )
    except CodecError as error:
        raise _invalid(f"{name}: {error}") from error


def _number(plain: Mapping[str, object], field: str) -> int:
    value = plain.get(field)
    if type(value) is not int or not 1 <= value < 1 << 40:
        raise CodecError(f"{field} is {str(value)[:40]!a}; a positive whole number is needed")
    return value


def _quantization(value: object) -> str:
    if not value:
        return UNQUANTIZED
    if not isinstance(value, dict):
        raise CodecError("quantization is not an object")
    if value.get("qformat_weight") != _FP8:
        raise CodecError(
            f"quantization has qformat_weight {str(value.get('qformat_weight'))[:40]!a}; the engine takes {_FP8}"
        )
    scheme = value.get("qscheme_act")
    if not isinstance(scheme, str | None) or scheme not in _FP8_SCHEMES:
        raise CodecError(f"quantization has qscheme_act {str(scheme)[:40]!a}; the engine takes TENSOR or NO_SCALES")
    return f"{_FP8}, {_FP8_SCHEMES[scheme]}"


def _invalid(detail: str) -> ReleaseInvalid:
    return ReleaseInvalid(detail=detail, remedy=_SOURCE)
