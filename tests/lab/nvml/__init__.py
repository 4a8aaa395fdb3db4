"""Builds the simulated GPU management library, `libnvidia-ml.so.1`, from mocknvml.c."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.lab.process import run
from tests.lab.requirements import install_tools

SOURCE = Path(__file__).with_name("mocknvml.c")
SONAME = "libnvidia-ml.so.1"
_FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-shared", "-fPIC")


def build(cache: Path) -> Path:
    """Compile the library unless the cache holds it; returns its path, whose name is the SONAME.

    Raises:
        LabFailed: the compiler failed.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = cache / f"nvml-{digest}" / SONAME
    if not library.exists():
        install_tools({"gcc": "gcc"})
        library.parent.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(".made")
        run(["gcc", *_FLAGS, f"-Wl,-soname,{SONAME}", "-o", made, SOURCE])
        made.rename(library)
    return library
