"""The page that an auditor reads first, inside every evidence bundle."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.domain.audit import Chain

_TEXT = """\
EVIDENCE OF NODE {node}
exported {at} UTC

What this is
  The records of one Leeward node, signed by the site's own keys. Verify the bundle before you read it:
      leeward bundle verify FOLDER --root-fingerprint FINGERPRINT
  The fingerprint comes to you on paper or by voice from the site, never from this medium. It needs no
  network. What passes is byte for byte what the node wrote.

Files
  audit/audit.jsonl        who did what to what, with which result: {entries} entries, one JSON object a line
  usage/usage.csv          one row for each request, for reading: {records} records (RFC 4180, UTF-8)
  usage/usage.jsonl        the same records unchanged, for computing
  usage/sums.csv           sums by month (UTC), team and model, made from the same records
  keys/keys.json           API keys: names, teams, dates; the appliance does not keep their secrets
  license/terms.json       licence texts of the installed releases, by SHA-256, with their thresholds
  license/attestations.json   dated statements by named people
  operations/operations.jsonl   installs, imports and exports: when, by whom, with which steps and result
  node/facts.json          the machine as it was at the time of the export
  node/compliance.json     how the node stood against items of CIS and STIG, with the reason of each exception
  passports/               capacity passports: what the node was measured to do, with which release
  node/egress.json         what tried to get out since when, all refused; and what such a count cannot show
  release/release.json     the manifest of the current release: every file with its SHA-256
  receipts/RELEASE/        custody receipts, signed; `leeward bundle receipt list` checks the chain
  export.json              the figures of this page

How to check the audit log
  Every entry holds the SHA-256 of the one before it and of itself. These lines need nothing of ours, only
  Python 3; they stop at the first entry that does not follow, and print the head:

      import hashlib, json
      head = "0" * 64
      for line in open("audit/audit.jsonl"):
          entry = json.loads(line)
          names = ("seq", "at", "actor", "action", "object", "outcome", "details")
          text = json.dumps({{n: entry[n] for n in names}}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
          head = hashlib.sha256(bytes.fromhex(head) + text.encode("utf-8", "surrogatepass")).hexdigest()
          assert head == entry["entry_hash"], entry["seq"]
      print(head)

  The head of this log is {head}
  An entry that was changed, removed or moved breaks the chain there. Compare the head with the one that you
  kept from the last export: the older log must be the beginning of this one. Whoever can write the whole log
  can make a new one that holds together; only a head kept elsewhere shows that. State of the chain: {state}

How to read usage
  An empty cell is unknown, not zero. `cached_tokens` and `image_tokens` are part of `prompt_tokens`,
  `reasoning_tokens` part of `completion_tokens`: do not add them. `settled` rows have the engine's own final
  counts, `partial` rows the last known ones, `abandoned` rows belong to a gateway that was killed; `admitted`
  rows were in flight. In CSV a text that begins like a formula has an apostrophe in front; the JSON lines have
  it as it was.
  No prompt and no answer is stored anywhere on the node.
"""


def readme(*, node: str, at: datetime, chain: Chain, records: int) -> str:
    """Return the page; the same input gives the same bytes."""
    state = "it holds from the first entry to the head." if chain.holds else f"BROKEN. {chain.reason}"
    return _TEXT.format(
        node=node,
        at=f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        entries=f"{chain.entries:,}",
        records=f"{records:,}",
        head=chain.head,
        state=state,
    )
