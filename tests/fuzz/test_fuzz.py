"""A short search for bytes that a parser answers otherwise than with a refusal. The long one: `tests.fuzz.search`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import search
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target, survives, targets

CORPUS = Path(__file__).parent / "corpus"
NAMES = (
    "release", "safetensors", "params", "delta", "inventory", "blocks", "volume", "recipe",
    "tuf-timestamp", "tuf-1.snapshot", "tuf-1.targets", "tuf-1.root",
)  # fmt: skip


def kept() -> list[Path]:
    return sorted(CORPUS.glob("*/*"))


def test_every_target_is_in_the_list() -> None:
    assert set(NAMES) == set(targets())


@pytest.mark.parametrize("name", NAMES)
def test_good_bytes_are_accepted(name: str) -> None:
    target = targets()[name]

    for seed in target.seeds:
        target.read(seed)


@pytest.mark.parametrize("path", kept(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_once_found_stays_refused_with_words(path: Path) -> None:
    survives(targets()[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_spoiled_bytes_are_accepted_or_refused_with_words(name: str) -> None:
    target, chance = targets()[name], Random(name)  # noqa: S311  reproducible input, no secret

    for _ in range(8 if name.startswith("tuf") else 1200):  # a check of a whole medium takes a tenth of a second
        survives(target, mutated(chance.choice(target.seeds), chance))


def test_the_search_finds_what_is_not_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(content: bytes) -> None:
        if b"{" not in content:
            raise KeyError("a parser that trusts its input")

    monkeypatch.setattr(search, "CORPUS", tmp_path)

    tried, found = search.search("careless", Target(careless, (b'{"a":1}',)), seconds=0.3, seed=1)

    assert 0 < found < tried
    assert len(list((tmp_path / "careless").iterdir())) > 0


@pytest.mark.parametrize("name", ["release", "safetensors", "params", "delta", "inventory", "volume"])
@given(content=st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_refused_with_words(name: str, content: bytes) -> None:
    survives(targets()[name], content)
