"""Recorded and composed nodes can be read back, and what leaves a site names nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from appliance.checks import CHECKS
from appliance.domain.node import NodeFacts, redacted
from appliance.domain.preflight import Outcome
from appliance.domain.wire import from_plain, to_plain
from appliance.services import preflight
from tests.nodes import FOLDER, names, node
from tests.unit.checks.releases import CPU, CUDA, CUDA_WITHOUT_DKMS, CUDA_WITHOUT_DRIVER

KEY = b"a site's own"


@pytest.mark.parametrize("name", names())
def test_facts_survive_the_wire_unchanged(name: str) -> None:
    facts = node(name)

    text = json.dumps(to_plain(facts))

    assert from_plain(json.loads(text), NodeFacts) == facts
    assert json.dumps(to_plain(from_plain(json.loads(text), NodeFacts))) == text


@pytest.mark.parametrize("name", names())
def test_every_file_says_where_it_comes_from(name: str) -> None:
    written = json.loads((FOLDER / f"{name}.json").read_text())

    assert written["origin"] in {"recorded", "composed"}
    assert written["note"]


def test_redacted_facts_name_no_machine_and_no_address() -> None:
    facts = from_plain(
        {
            **json.loads((FOLDER / "four-h200.json").read_text())["facts"],
            "hostname": "llm01.secret.example",
            "default_routes": ["0.0.0.0/0 via 10.20.30.40 dev eno1", "::/0 dev ppp0"],
            "nameservers": ["10.20.30.53", "9.9.9.9"],
            "management_networks": ["10.20.30.0/24"],
            "ssh_clients_outside": ["10.20.30.7"],
        },
        NodeFacts,
    )
    facts = replace(facts, gpus=tuple(replace(gpu, serial=f"16524{gpu.index}") for gpu in facts.gpus))

    text = json.dumps(to_plain(redacted(facts, key=KEY)))

    assert "secret" not in text
    assert "10.20.30" not in text
    assert "9.9.9.9" not in text
    assert "16524" not in text
    assert "0.0.0.0/0 via [local address " in text
    assert "[public address " in text
    assert all(gpu.uuid not in text for gpu in facts.gpus)
    assert len({gpu.uuid for gpu in redacted(facts, key=KEY).gpus}) == 4


def test_a_pseudonym_is_the_same_under_one_key_and_another_under_another() -> None:
    facts = node("four-h200")

    assert redacted(facts, key=KEY) == redacted(facts, key=KEY)
    assert redacted(facts, key=KEY).hostname != redacted(facts, key=b"another site").hostname


@pytest.mark.parametrize("release", [CPU, CUDA, CUDA_WITHOUT_DRIVER, None])
def test_redaction_changes_no_finding(release: object) -> None:
    for name in names():
        facts = node(name)
        before = preflight.evaluate(facts, release)  # type: ignore[arg-type]  # parametrised over releases
        after = preflight.evaluate(redacted(facts, key=KEY), release)  # type: ignore[arg-type]  # as above

        assert [(f.check, f.outcome) for f in before] == [(f.check, f.outcome) for f in after]


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("wrong-")])
def test_every_wrong_node_is_refused_by_one_release_at_least(name: str) -> None:
    refusals = [
        preflight.blocking(preflight.evaluate(node(name), release))
        for release in (CPU, CUDA, CUDA_WITHOUT_DKMS, CUDA_WITHOUT_DRIVER)
    ]

    assert any(refusals)


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("odd-")])
def test_no_odd_node_is_refused_by_the_release_that_fits_it(name: str) -> None:
    release = CPU if name == "odd-cpu" else CUDA

    assert preflight.blocking(preflight.evaluate(node(name), release)) == ()


def test_the_recorded_machine_is_read_as_what_it_is() -> None:
    findings = {f.check: f for f in preflight.evaluate(node("build-machine"), CPU)}

    assert findings["operating-system"].outcome is Outcome.PASS
    assert findings["systemd"].blocking
    assert findings["default-route"].outcome is Outcome.WARN
    assert len(findings) == len(CHECKS)
