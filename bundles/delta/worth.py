"""What a delta between two releases would be worth, without writing one: both bundles are read once."""

from __future__ import annotations

from concurrent.futures import Executor

from bundles.delta.chunks import Hashed
from bundles.delta.write import Held, SectionWorth, held_of, read_signed, section_worths
from bundles.layout import Bundle, peek
from bundles.release import FileEntry
from bundles.transfer import IsCanceled, Meter, Progress, each, never, silent


def worth(
    bundle: Bundle, base: Bundle, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> tuple[SectionWorth, ...]:
    """Return, section by section, what must travel to a site that holds all of `base`.

    Raises ContentMismatch where a bundle is damaged, MediaMissing, ReleaseInvalid, Canceled.
    """
    release, held = peek(bundle), Held.of(held_of(base, (), is_canceled))
    lacking = held.lacking(release)
    meter = Meter(total=sum(entry.size_bytes for entry in lacking), progress=progress, is_canceled=is_canceled)
    carried: dict[str, int] = {}

    def one(entry: FileEntry, pool: Executor) -> None:
        travels = 0

        def take(chunk: Hashed) -> None:
            nonlocal travels
            meter.check()
            if held.find(entry, chunk) is None:
                travels += chunk.at.length
            meter.add(entry.path, chunk.at.length)

        read_signed(bundle, entry, take, pool)
        carried[entry.sha256] = travels

    each(lacking, one, meter)
    return section_worths(release, carried)
