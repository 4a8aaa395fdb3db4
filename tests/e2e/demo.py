"""`make demo`: the journey, told line by line.

Every figure printed here comes from a component that ran: the CLI, the node's kernel, Ansible's
statistics, vLLM's metrics, the ledger, the verifier.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.journey import CHECKOUT, QUESTION, CommandRefused, Journey
from tests.lab import LabUnavailable


def main() -> int:
    """Tell the story; 0 when all of it came true."""
    begun = time.monotonic()
    journey = Journey(root=CHECKOUT / ".build/demo")
    try:
        journey.lab.require()
    except LabUnavailable as unavailable:
        print(f"make demo cannot run here: {unavailable}\nNothing was changed.", file=sys.stderr)
        return 2
    try:
        tell(journey)
    except CommandRefused as refused:
        print(f"\nFAIL  {refused}", file=sys.stderr)
        return 1
    finally:
        journey.close()
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in journey.times.items())
    line("time", f"{(time.monotonic() - begun) / 60:.1f} min ({parts})")
    return 0


def tell(journey: Journey) -> None:
    chapter("On the connected side: build, sign, verify")
    report = journey.build()
    line("bundle", f"{report.size_bytes / 1e6:,.0f} MB in {report.files} files, slot {report.slot}")
    line("on paper", f"bootstrap SHA-256 {report.bootstrap_fingerprint}")
    verdict = journey.leeward("bundle", "verify", str(journey.bundle), "--root-fingerprint", report.root_fingerprint)
    quote(verdict.stdout)

    chapter("A node without a network, and a medium")
    journey.raise_node()
    line("node", f"{journey.node.address}, Debian 12, systemd as PID 1, medium at /media/leeward (read-only, noexec)")
    line("no route", f"`ip route show default` prints {journey.routes()!r}")

    chapter("Day 0 from the medium alone")
    quote(journey.bootstrap(report.bootstrap_fingerprint))

    chapter("Install: preflight, import, licence, provision, start, smoke test")
    with ThreadPoolExecutor(max_workers=1) as beside:
        install = beside.submit(journey.install)
        journey.wait_for_tasks(30)
        pictures = journey.photograph("install", until="Provision")
        tell_install([record["event"] for record in install.result()])

    chapter("A program asks, with the real openai SDK")
    before = journey.on_node("health")
    answer = journey.ask()
    line("question", QUESTION)
    line("answer", answer["text"])
    line("usage", f"the SDK saw {json.dumps(tokens(answer['usage']))}")
    for row in journey.usage(answer["id"]):
        line("ledger", f"{row['request_id']} {row['state']} {json.dumps(tokens(row['usage']))}")
    health = journey.on_node("health")
    engine = health["engine"]
    line("engine", f"vLLM {engine['version']}, model {engine['served_model_name']}")
    drafted = engine["draft_tokens_total"] - (before["engine"]["draft_tokens_total"] or 0)
    line(
        "EAGLE",
        f"{engine['accepted_tokens_total']} of {engine['draft_tokens_total']} drafted tokens accepted "
        f"since start, {drafted} drafted since just before this question",
    )
    line("health", f"{health['verdict']}; SIMULATED: {', '.join(health['simulated']) or 'nothing'}")

    chapter("Evidence for the auditor")
    chain = journey.on_node("audit", "verify")
    line("audit", f"{chain['entries']} entries, each linked to the one before, head {chain['head']}")
    evidence, fingerprint = journey.export_evidence()
    line("evidence", f"{evidence}, root {fingerprint}")
    quote(journey.leeward("bundle", "verify", str(evidence), "--root-fingerprint", fingerprint).stdout)

    chapter("The console, rendered from a real terminal on the node")
    for picture in [*pictures, *journey.photograph("health", until="Events")]:
        line("picture", str(picture.relative_to(CHECKOUT)))


def tell_install(events: list[dict[str, Any]]) -> None:
    findings = [event for event in events if event["type"] == "FindingReported"]
    outcomes = {name: sum(f["outcome"] == name for f in findings) for name in ("pass", "warn", "fail")}
    line("preflight", ", ".join(f"{count} {name}" for name, count in outcomes.items()))
    for finding in findings:
        if finding["outcome"] != "pass":
            line("", f"{finding['outcome']} {finding['check']}: {finding['observed']} (needed: {finding['required']})")
    for event in events:
        if event["type"] == "StepFinished":
            line(event["step"], event["summary"])


def tokens(usage: dict[str, Any]) -> dict[str, int]:
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}


def chapter(title: str) -> None:
    print(f"\n== {title}", flush=True)


def line(label: str, text: str) -> None:
    print(f"  {label:<10} {text}", flush=True)


def quote(text: str) -> None:
    for each in text.rstrip().splitlines():
        print(f"  | {each}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
