"""The stand-in's tokenizer, and the fixed walks that its weights are arranged to take.

The vocabulary is the first part of the tekken vocabulary inside the mistral_common wheel, under a
v15 header as the real release has it: special tokens for tools and thoughts, an image block, and
the model setting `reasoning_effort`. A token decides its successor, so no token may occur twice in
the walks; `Walks.of` checks that.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mistral_common
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from bundles.tiny.shape import TinyShape

SENTENCE = (
    "This stand-in says one fixed sentence: its weights were arranged by hand, so do not take the answer for knowledge."
)
THOUGHT = "Let me look up what I am told to say"
TOOL_NAME = "get_weather"
TOOL_ARGUMENTS = '{"city": "Paris"}'

SPECIAL_COUNT = 1000
EOS, INST_END, TOOLS_END, RESULTS_END, TOOL_CALLS = 2, 4, 6, 8, 9
ARGS, THINK, THINK_END = 32, 34, 35
_SPECIALS: Final = {
    0: "<unk>", 1: "<s>", EOS: "</s>", 3: "[INST]", INST_END: "[/INST]", 5: "[AVAILABLE_TOOLS]",
    TOOLS_END: "[/AVAILABLE_TOOLS]", 7: "[TOOL_RESULTS]", RESULTS_END: "[/TOOL_RESULTS]",
    TOOL_CALLS: "[TOOL_CALLS]", 10: "[IMG]", 11: "<pad>", 12: "[IMG_BREAK]", 13: "[IMG_END]",
    14: "[PREFIX]", 15: "[MIDDLE]", 16: "[SUFFIX]", 17: "[SYSTEM_PROMPT]", 18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]", ARGS: "[ARGS]", 33: "[CALL_ID]", THINK: "[THINK]", THINK_END: "[/THINK]",
    36: "[MODEL_SETTINGS]", 37: "[/MODEL_SETTINGS]",
}  # fmt: skip
_EXTRA_PIECES = ('{"', '"}')
"""Pieces of `TOOL_ARGUMENTS` that lie beyond the cut of the vocabulary."""


def tekken_text(shape: TinyShape) -> str:
    """Return the stand-in's `tekken.json`."""
    source = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    original: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    count = shape.vocab_size - SPECIAL_COUNT
    kept = count - len(_EXTRA_PIECES)
    extra = [
        {"rank": kept + i, "token_bytes": base64.b64encode(piece.encode()).decode(), "token_str": piece}
        for i, piece in enumerate(_EXTRA_PIECES)
    ]
    tekken = {
        "config": {
            "pattern": original["config"]["pattern"],
            "num_vocab_tokens": count,
            "default_vocab_size": shape.vocab_size,
            "default_num_special_tokens": SPECIAL_COUNT,
            "version": "v15",
        },
        "vocab": original["vocab"][:kept] + extra,
        "special_tokens": [
            {"rank": i, "token_str": _SPECIALS.get(i, f"<SPECIAL_{i}>"), "is_control": True}
            for i in range(SPECIAL_COUNT)
        ],
        "image": {
            "image_patch_size": shape.patch_size,
            "max_image_size": shape.image_size,
            "spatial_merge_size": shape.spatial_merge,
        },
        "model_settings_builder": {
            "reasoning_effort": {
                "type": "enum",
                "accepts_none": True,
                "default": "none",
                "values": ["none", "high"],
            }
        },
    }
    return json.dumps(tekken, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """Token ids of what the stand-in says. `high` marks a prompt that asks for reasoning."""

    sentence: tuple[int, ...]
    thought: tuple[int, ...]
    call: tuple[int, ...]
    high: int

    @classmethod
    def of(cls, tekken: Path) -> Walks:
        """Encode the walks; raises ValueError where two of their tokens are the same."""
        tokenizer = Tekkenizer.from_file(tekken)

        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, bos=False, eos=False))

        walks = cls(
            sentence=encode(SENTENCE),
            thought=(THINK, *encode(THOUGHT), THINK_END),
            call=(TOOL_CALLS, *encode(TOOL_NAME), ARGS, *encode(TOOL_ARGUMENTS)),
            high=encode('{"reasoning_effort": "high"}')[-2],
        )
        ids = walks.ids
        if len(ids) != len(set(ids)):
            twice = sorted({tokenizer.decode([i]) for i in ids if ids.count(i) > 1})
            raise ValueError(f"the stand-in's walks share tokens: {twice}")
        return walks

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens of all walks."""
        return (*self.sentence, *self.thought, *self.call)
