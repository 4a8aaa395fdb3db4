"""Every error of the tree can be said over HTTP, on a terminal and in the manual, and comes back whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

import appliance.domain.errors  # noqa: F401  makes the tree complete
from appliance.client import error_from_problem, error_from_view
from appliance.domain.errors import InternalError
from appliance.domain.projection import ErrorView
from appliance.entrypoints.management.problems import http_status, problem
from bundles.errors import LeewardError

MANUAL = Path(__file__).resolve().parents[2] / "docs/errors.md"
EXIT_STATUSES = {1, 2, 3, 4, 5, 6, 130}


def tree(parent: type[LeewardError] = LeewardError) -> Iterator[type[LeewardError]]:
    for child in parent.__subclasses__():
        yield child
        yield from tree(child)


def said() -> list[type[LeewardError]]:
    """Return the product's own errors; the lab's grow from the same root and are not in the manual."""
    return [error for error in tree() if "code" in vars(error) and not error.__module__.startswith("tests.")]


def test_the_tree_is_not_empty_and_no_code_stands_twice() -> None:
    codes = [error.code for error in said()]

    assert len(codes) > 30
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", said(), ids=lambda error: error.code)
def test_each_error_has_an_exit_status_an_http_status_and_a_page(error: type[LeewardError]) -> None:
    headings = re.findall(r"^## (\S+)$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)

    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)
    assert "title" in vars(error)
    assert error.exit_status in EXIT_STATUSES
    assert http_status(error) >= HTTPStatus.BAD_REQUEST
    assert headings.count(error.code) == 1


@pytest.mark.parametrize("error", said(), ids=lambda error: error.code)
def test_each_error_goes_over_the_wire_and_comes_back_as_itself(error: type[LeewardError]) -> None:
    raised = error(detail="what was seen", remedy="What to do.")

    back = error_from_problem(json.loads(bytes(problem(raised).body)))

    assert type(back) is error
    assert (back.detail, back.remedy) == ("what was seen", "What to do.")


def test_the_manual_has_no_page_for_an_error_that_is_gone() -> None:
    headings = re.findall(r"^## (\S+)$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)

    assert set(headings) == {error.code for error in said()}


def test_an_error_of_a_newer_daemon_is_passed_on_with_its_words() -> None:
    back = error_from_view(ErrorView(code="flux-reversed", title="Flux", detail="seen", remedy="Wait."))

    assert isinstance(back, InternalError)
    assert "flux-reversed" in back.detail
    assert back.remedy == "Wait."
