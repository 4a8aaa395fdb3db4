"""Support reports: one text file for each thing that Leeward did not foresee."""

from __future__ import annotations

import os
import platform
import traceback
from datetime import datetime
from importlib.metadata import version
from pathlib import Path


class SupportReportFolder:
    """`appliance.ports.SupportReports` as files of root in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, error: BaseException, at: datetime) -> str:
        """Store the traceback; return a sentence that says where it lies, or why it does not."""
        path = self._folder / f"{at:%Y%m%dT%H%M%S.%fZ}.txt"
        text = "\n".join(
            (
                f"at {at.isoformat()}",
                f"leeward {version('leeward')}, Python {platform.python_version()}, {platform.platform()}",
                "",
                "".join(traceback.format_exception(error)),
            )
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(text)
        except OSError as problem:
            return f"No support report could be stored in {self._folder}: {problem.strerror}."
        return f"The support report is {path}."
