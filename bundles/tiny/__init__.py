"""A tiny stand-in for Mistral-Medium-3.5-128B and its EAGLE head, made from a seed.

Same architecture, file names, tensor names, FP8 layout and tokenizer family as the real release;
only the sizes differ, so the unmodified engine serves it through the code paths that the real
weights take. **The weights are arranged noise: there is no knowledge in them.** A greedy answer is
one fixed sentence; a request with tools yields one fixed call; `reasoning_effort: high` yields a
fixed thought first; the draft head is right about two times in five.

Needs the `build` extra (numpy, ml-dtypes, mistral-common).
"""

from bundles.tiny.generate import write_draft, write_license, write_target
from bundles.tiny.shape import TINY, TinyShape
from bundles.tiny.tokens import SENTENCE, THOUGHT, TOOL_ARGUMENTS, TOOL_NAME

__all__ = [
    "SENTENCE", "THOUGHT", "TINY", "TOOL_ARGUMENTS", "TOOL_NAME", "TinyShape", "write_draft", "write_license",
    "write_target",
]  # fmt: skip
