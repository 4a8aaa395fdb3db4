"""Thousands of faults against the import: what comes out is the signed release or a refusal, never silence.

    python -m tests.campaign.bundles [--faults 2000] [--seed 1] [--minutes 30] [--folder /dev/shm]

Each fault spoils a fresh copy of a medium or of a media set, kills the importing process, or lets its
disk fill up. Afterwards the site must be either whole (every file byte-identical to what was published,
none more) or as before, with an error that says what was seen and what to do. Then a good medium is
imported into the same site, and must give the whole release. Faults are drawn from the seed, so that a
run can be repeated; `--only KIND` looks at one kind. As root it uses small tmpfs and loop devices too.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundles import verify
from bundles.errors import LeewardError
from bundles.keys import Keyring
from bundles.layout import BLOBS, METADATA, TARGETS
from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from bundles.media.taking import import_media
from bundles.release import LEAF_BYTES
from bundles.store import MANIFEST
from tests.support.small_bundles import NOW, safetensors_bytes, tree, write_bundle
from tests.unit.bundles.site import Site, flip_bit

SHARD = "weights/target/consolidated.safetensors"
VOLUME_BYTES = 24_000_000
MB = 1024 * 1024


@dataclass(slots=True)
class Tally:
    """What came of the faults: outcomes by kind, and everything that should not have been."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return sum(self.outcomes.values())

    def __str__(self) -> str:
        kinds = sorted({kind for kind, _ in self.outcomes})
        lines = [f"{'fault':<12}{'faults':>8}  outcomes"]
        for kind in kinds:
            mine = {outcome: count for (one, outcome), count in self.outcomes.items() if one == kind}
            told = ", ".join(f"{outcome} {count}" for outcome, count in sorted(mine.items()))
            lines.append(f"{kind:<12}{sum(mine.values()):>8}  {told}")
        return "\n".join([*lines, f"{self.faults} faults, {len(self.wrong)} silent or unclear", *self.wrong])


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A release in both forms, and the bytes it must have."""

    files: Mapping[str, bytes]
    medium: Path
    volumes: tuple[Path, ...]

    @classmethod
    def make(cls, folder: Path, keyring: Keyring, shard_bytes: int) -> Published:
        noise = random.Random(shard_bytes).randbytes(shard_bytes)  # noqa: S311  content, no secret
        files = tree() | {SHARD: safetensors_bytes(noise)}
        medium = write_bundle(folder / "medium", keyring, files=files).folder
        layout = lay_out(open_media([medium]), volume_bytes=VOLUME_BYTES, parity=1)
        for header in layout.headers:
            write_volume(layout, header, layout.folder(header, folder / "set"))
        # the release that arrives holds the publisher's signatures over the weights too
        release = layout.source.release
        whole = {}
        for entry in release.files:
            parts = sorted((medium / BLOBS).glob(f"{entry.sha256}.p*"))
            whole[entry.path] = b"".join(part.read_bytes() for part in parts)
        if {path: whole[path] for path in files} != files:
            raise SystemExit("the medium itself is not what was published")
        return cls(
            files=whole,
            medium=medium,
            volumes=tuple(layout.folder(header, folder / "set") for header in layout.headers),
        )


class Campaign:
    """Draws faults and judges what comes of them."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.draw = random.Random(seed)  # noqa: S311  the faults are to be the same again
        self.folder = folder
        self.tally = Tally()
        self.keyring = Keyring.create(folder / "keys", now=NOW)
        self.small = Published.make(folder / "small", self.keyring, 40_000)
        self.large = Published.make(folder / "large", self.keyring, 2 * LEAF_BYTES + 12_345)
        self.import_s = 0.2
        self.kinds: dict[str, tuple[int, Callable[[Published, Path], tuple[Published, str]]]] = {
            "flip": (20, self._content(_flip)),
            "truncate": (8, self._content(_truncate)),
            "extend": (6, self._content(_extend)),
            "zero": (6, self._content(_zero)),
            "drop": (8, self._content(_drop)),
            "duplicate": (6, self._content(_duplicate)),
            "reorder": (8, self._content(_reorder)),
            "volumes": (14, self._volumes),
            "kill": (16, self._kill),
            "full-disk": (4, self._full_disk),
            "unreadable": (4, self._unreadable),
        }
        if os.geteuid():
            del self.kinds["full-disk"], self.kinds["unreadable"]

    def run(self, faults: int, *, only: Sequence[str] = (), until: float = float("inf")) -> Tally:
        """Do that many faults, or as many as there is time for until `until` (monotonic seconds)."""
        kinds = {name: kind for name, kind in self.kinds.items() if not only or name in only}
        weights = [weight for weight, _ in kinds.values()]
        for number in range(faults):
            if time.monotonic() > until:
                break
            (name,) = self.draw.choices(list(kinds), weights)
            published = self.large if self.draw.random() < 0.2 else self.small
            place = self.folder / "fault"
            place.mkdir()
            try:
                good, outcome = kinds[name][1](published, place)
                outcome = outcome or "imported"
                self._recover(Site(place / "site"), good)
            except _Wrong as wrong:
                outcome = "WRONG"
                self.tally.wrong.append(f"  {name}, number {number}: {wrong}")
            self.tally.outcomes[name, outcome] += 1
            shutil.rmtree(place)
        return self.tally

    # How a fault is done: each gives what was published and the outcome.

    def _content(self, spoil: Callable[[Campaign, Path], None]) -> Callable[[Published, Path], tuple[Published, str]]:
        def fault(published: Published, place: Path) -> tuple[Published, str]:
            medium = _cloned(published.medium, place / "medium")
            spoil(self, medium)
            return published, self._attempt(self._site(place), [medium], published)

        return fault

    def _volumes(self, published: Published, place: Path) -> tuple[Published, str]:
        """One to three things happen to volumes; they come in any order, some of them perhaps not at all."""
        volumes = [_cloned(volume, place / volume.name) for volume in published.volumes]
        for _ in range(self.draw.randint(1, 3)):
            self.draw.choice((_flip, _truncate, _drop, _zero))(self, self.draw.choice(volumes))
        self.draw.shuffle(volumes)
        volumes = volumes[: self.draw.randint(1, len(volumes))]
        return published, self._attempt(self._site(place), volumes, published)

    def _kill(self, published: Published, place: Path) -> tuple[Published, str]:
        """The importing process dies by SIGKILL at any instant."""
        site = self._site(place)
        child = os.fork()
        if child == 0:
            try:
                _import(site, [published.medium])
            finally:
                os._exit(0)
        time.sleep(self.draw.uniform(0, 1.2) * self.import_s * (3 if published is self.large else 1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        self._judge_site(site, published)
        return published, "killed" if os.WIFSIGNALED(status) else "ended before"

    def _full_disk(self, _: Published, place: Path) -> tuple[Published, str]:
        """The disk fills up in the middle, because somebody else writes to it after room was found."""
        published = self.large
        (place / "site").mkdir()
        total = sum(map(len, published.files.values()))
        size = self.draw.randint(MB // 4, total)
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place / "site")
        try:
            site = self._site(place)
            found_room = verify.check_room
            verify.check_room = lambda *_, **__: None
            try:
                outcome = self._attempt(site, [published.medium], published)
            finally:
                verify.check_room = found_room
            _run("mount", "-o", f"remount,size={total + 100 * MB}", place / "site")
            self._recover(site, published)
        finally:
            _run("umount", place / "site")
        shutil.rmtree(place / "site")
        self._site(place)
        return published, outcome

    def _unreadable(self, _: Published, place: Path) -> tuple[Published, str]:
        """The medium is a real file system whose device gives read errors from some block on."""
        published = self.large
        size = (sum(map(len, published.files.values())) // MB + 16) * MB
        image = place / "medium.img"
        with image.open("wb") as stream:
            stream.truncate(size)
        _run("mkfs.ext4", "-q", "-d", published.medium, image)
        site = self._site(place)
        with _failing_mount(image, place / "mounted", keep=self.draw.randint(size // 4, size) // 4096 * 4096) as medium:
            return published, self._attempt(site, [medium], published)

    # What is judged.

    def _site(self, place: Path) -> Site:
        return Site.trusting(place / "site", self.keyring)

    def _attempt(self, site: Site, media: Sequence[Path], published: Published) -> str:
        """Import; returns the code of the refusal, or nothing where it succeeded and is whole."""
        try:
            _import(site, media)
        except LeewardError as error:
            if not (error.detail and error.remedy):
                raise _Wrong(f"{error.code} without a reason or a remedy") from error
            if site.slots() or site.policy is not None:
                raise _Wrong(f"refused with {error.code}, but the site was changed") from error
            return error.code
        except Exception as error:  # the campaign's outermost place: what is no error of Leeward is a finding
            raise _Wrong(f"ended with {type(error).__name__}: {error}") from error
        self._judge_site(site, published)
        if not site.slots():
            raise _Wrong("said that it succeeded, but there is no slot")
        return ""

    def _judge_site(self, site: Site, published: Published) -> None:
        """Whatever lies in slots/ under a slot's name must be the whole release."""
        for name in site.slots():
            if name.startswith("."):
                continue
            slot = site.folder / "slots" / name
            found = {path.relative_to(slot).as_posix() for path in slot.rglob("*") if path.is_file()}
            if found != published.files.keys() | {MANIFEST}:
                raise _Wrong(f"slot {name} has other files than were published: {sorted(found)[:5]}")
            for path, content in published.files.items():
                if (slot / path).read_bytes() != content:
                    raise _Wrong(f"SILENT: {path} in slot {name} is not what was published")

    def _recover(self, site: Site, published: Published) -> None:
        """A good medium must give the whole release afterwards, and leave nothing behind."""
        begun = time.monotonic()
        if self._attempt_again(site, published):
            raise _Wrong("the good medium was refused afterwards")
        if published is self.small:
            self.import_s = min(1.0, max(0.02, 0.8 * self.import_s + 0.2 * (time.monotonic() - begun)))
        left = list((site.folder / "staging").iterdir())
        if left:
            raise _Wrong(f"staging still holds {left[0].name}")

    def _attempt_again(self, site: Site, published: Published) -> str:
        try:
            _import(site, [published.medium])
        except LeewardError as error:
            return error.code
        self._judge_site(site, published)
        return "" if len(site.slots()) == 1 else "no slot"


class _Wrong(Exception):
    """Something that must never happen did."""


def _import(site: Site, media: Sequence[Path]) -> None:
    """Do what the step `import` does, in its order."""
    opened = open_media(media)
    verified = opened.check(site.trust, now=NOW)
    import_media(opened, verified, **site.places())
    verified.commit()


def _cloned(folder: Path, to: Path) -> Path:
    """Copy a medium by hard links; a fault replaces the file that it changes."""
    shutil.copytree(folder, to, copy_function=os.link)
    return to


def _victim(campaign: Campaign, medium: Path) -> Path:
    """Draw a file that matters: content mostly, and everything that is signed or says what is."""
    folder = campaign.draw.choices((BLOBS, METADATA, TARGETS), (8, 3, 1))[0]
    files = sorted(path for path in (medium / folder).iterdir() if path.is_file())
    path = campaign.draw.choice(files or sorted((medium / METADATA).iterdir()))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def _flip(campaign: Campaign, medium: Path) -> None:
    path = _victim(campaign, medium)
    for _ in range(campaign.draw.choice((1, 1, 1, 3))):
        flip_bit(path, campaign.draw.randrange(path.stat().st_size))


def _truncate(campaign: Campaign, medium: Path) -> None:
    path = _victim(campaign, medium)
    os.truncate(path, campaign.draw.randrange(path.stat().st_size))


def _extend(campaign: Campaign, medium: Path) -> None:
    with _victim(campaign, medium).open("ab") as stream:
        stream.write(campaign.draw.randbytes(campaign.draw.choice((1, 100, 70_000))))


def _zero(campaign: Campaign, medium: Path) -> None:
    path = _victim(campaign, medium)
    begin = campaign.draw.randrange(path.stat().st_size)
    with path.open("r+b") as stream:
        stream.seek(begin)
        stream.write(bytes(min(4096, path.stat().st_size - begin)))


def _drop(campaign: Campaign, medium: Path) -> None:
    _victim(campaign, medium).unlink()


def _duplicate(campaign: Campaign, medium: Path) -> None:
    path = _victim(campaign, medium)
    name = campaign.draw.choice((f"{path.stem}.p001", f"{'0' * 64}.p000", f"2.{path.name}", f"{path.name}.bak"))
    shutil.copyfile(path, path.with_name(name))


def _reorder(campaign: Campaign, medium: Path) -> None:
    """Two contents change places, or two leaves of one file do."""
    first, second = _victim(campaign, medium), _victim(campaign, medium)
    if first == second and first.stat().st_size > 2 * LEAF_BYTES:
        content = first.read_bytes()
        first.write_bytes(content[LEAF_BYTES : 2 * LEAF_BYTES] + content[:LEAF_BYTES] + content[2 * LEAF_BYTES :])
        return
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


@contextmanager
def _failing_mount(image: Path, target: Path, *, keep: int) -> Iterator[Path]:
    """Mount an image of which everything behind `keep` bytes gives EIO: its backing ends there."""
    target.mkdir()
    with ExitStack() as undo:
        loop = _run("losetup", "--find", "--show", image).strip()
        undo.callback(_run, "losetup", "--detach", loop)
        os.truncate(image, keep)
        _run("mount", "-o", "ro,noload", loop, target)
        undo.callback(_run, "umount", target)
        yield target


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Run it by hand; ends with status 1 where anything was silent or unclear."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108  a fast disk, not a secret place
    parser.add_argument("--only", action="append", default=[])
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="leeward-campaign-", dir=asked.folder) as name:
        tally = Campaign(Path(name), seed=asked.seed).run(asked.faults, only=asked.only, until=until)
    sys.stdout.write(f"seed {asked.seed}\n{tally}\n")
    sys.exit(1 if tally.wrong or tally.faults < asked.faults else 0)


if __name__ == "__main__":
    main()
