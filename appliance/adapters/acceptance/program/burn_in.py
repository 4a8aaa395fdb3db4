"""Load a node's processors for a while, measure what they do, and check that they compute right.

    python -I burn_in.py --device cpu|cuda --seconds N --ranks R

Runs in the engine's own environment, because PyTorch is there, and prints one JSON object:

    {"schema": "leeward-burn-in/1", "device", "torch", "devices": [names], "figures": [...], "wrong": [...]}

A figure is {"name", "subject", "unit", "samples"}; each sample is one short run, all of one kind of
work. All GPUs work at the same time, as they will when they serve. `wrong` names each device whose
product was not bit for bit what the same device computed first: hardware that computes wrong. What a
device cannot do is left out, not zero. The program ends by itself after its time, or when its parent
is gone.

The CPU path runs in the test suite. The CUDA path is written from PyTorch's documentation and has
not run on a GPU; docs/acceptance.md says so too.
"""

# ruff: noqa: INP001, T201  a single program for the engine's own environment, whose output is its result
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PARENT = os.getppid()
GEMM_SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices; on the GPU large enough to be bound by arithmetic."""
COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
REDUCE_BYTES = {"cpu": 2**24, "cuda": 2**28}
ITERATIONS = {"cpu": 2, "cuda": 20}
FP8 = torch.float8_e4m3fn
FP8_CAPABILITY = (8, 9)

Work = Callable[[int], Any]
"""Begins one piece of work on the device of that index."""


class Devices:
    """The processors of one kind, and how to time work on all of them at once."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = torch.cuda.device_count() if kind == "cuda" else 1

    def names(self) -> list[str]:
        """Say what they are."""
        if self.kind == "cuda":
            return [torch.cuda.get_device_name(index) for index in range(self.count)]
        return [_cpu_name()]

    def subject(self, index: int) -> str:
        """Name one of them as figures do."""
        return f"GPU {index}" if self.kind == "cuda" else "CPU"

    def place(self, index: int) -> torch.device:
        """Return PyTorch's word for one of them."""
        return torch.device("cuda", index) if self.kind == "cuda" else torch.device("cpu")

    def timed(self, work: Work, indices: list[int]) -> list[float]:
        """Do the work some times on each of them, all at once; return seconds for one piece, by index."""
        count = ITERATIONS[self.kind]
        if self.kind == "cpu":
            began_s = time.perf_counter()
            for _ in range(count):
                work(0)
            return [(time.perf_counter() - began_s) / count]
        events = []
        for index in indices:
            with torch.cuda.device(index):
                begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begun.record()
                for _ in range(count):
                    work(index)
                ended.record()
                events.append((begun, ended))
        for index in indices:
            torch.cuda.synchronize(index)
        return [begun.elapsed_time(ended) / 1e3 / count for begun, ended in events]


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "CPU"


class BurnIn:
    """All measurements, each for its share of the time."""

    def __init__(self, devices: Devices, *, seconds: float) -> None:
        self._devices = devices
        self._seconds = seconds
        self.figures: list[dict[str, Any]] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """Compute, copy, and copy between GPUs."""
        torch.manual_seed(0)
        measurements = [self._bf16, self._memory]
        if self._has_fp8():
            measurements.append(self._fp8)
        if self._devices.count > 1:
            measurements.append(self._peers)
        for measure in measurements:
            measure(self._seconds / len(measurements))

    def _has_fp8(self) -> bool:
        if self._devices.kind == "cpu":
            return True
        return all(torch.cuda.get_device_capability(i) >= FP8_CAPABILITY for i in range(self._devices.count))

    def _bf16(self, seconds: float) -> None:
        side = GEMM_SIDE[self._devices.kind]
        left = [torch.randn(side, side, device=place).bfloat16() for place in self._places()]
        self._gemm("gemm-bf16", lambda i: left[i] @ left[i], side, seconds)

    def _fp8(self, seconds: float) -> None:
        side = GEMM_SIDE[self._devices.kind]
        left = [torch.randn(side, side, device=place).to(FP8) for place in self._places()]
        scale = [torch.ones((), device=place) for place in self._places()]

        def multiply(i: int) -> torch.Tensor:
            # torch._scaled_mm has no public name; the engine's FP8 layers call the same function.
            return torch._scaled_mm(  # noqa: SLF001
                left[i], left[i].t(), scale_a=scale[i], scale_b=scale[i], out_dtype=torch.bfloat16
            )

        self._gemm("gemm-fp8", multiply, side, seconds)

    def _gemm(self, name: str, multiply: Callable[[int], torch.Tensor], side: int, seconds: float) -> None:
        first = [multiply(i) for i in range(self._devices.count)]
        self._measure(name, "TFLOP/s", multiply, 2 * side**3 / 1e12, seconds)
        for i, product in enumerate(first):
            if not torch.equal(product, multiply(i)):
                self.wrong.append(f"{self._devices.subject(i)}: {name}")

    def _memory(self, seconds: float) -> None:
        size = COPY_BYTES[self._devices.kind]
        source = [torch.ones(size, dtype=torch.uint8, device=place) for place in self._places()]
        target = [torch.empty_like(tensor) for tensor in source]
        self._measure("memory", "GB/s", lambda i: target[i].copy_(source[i]), 2 * size / 1e9, seconds)

    def _peers(self, seconds: float) -> None:
        """Copy from each GPU to each other, one pair at a time."""
        size, count = REDUCE_BYTES["cuda"], self._devices.count
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        for i, j in pairs:
            source = torch.ones(size, dtype=torch.uint8, device=self._devices.place(i))
            target = torch.empty(size, dtype=torch.uint8, device=self._devices.place(j))
            samples = self._sampled(partial(_copied, target, source), [i], seconds / len(pairs))
            self._add("p2p", f"GPU {i} to GPU {j}", "GB/s", [size / 1e9 / s for s in samples[0]])

    def _measure(self, name: str, unit: str, work: Work, amount: float, seconds: float) -> None:
        indices = list(range(self._devices.count))
        for index, samples in zip(indices, self._sampled(work, indices, seconds), strict=True):
            self._add(name, self._devices.subject(index), unit, [amount / s for s in samples])

    def _sampled(self, work: Work, indices: list[int], seconds: float) -> list[list[float]]:
        """Repeat timed runs until the time is over, at least three after one that warms up."""
        self._devices.timed(work, indices)
        samples: list[list[float]] = [[] for _ in indices]
        until_s = time.monotonic() + seconds
        while len(samples[0]) < 3 or time.monotonic() < until_s:  # noqa: PLR2004  fewer have no median
            if os.getppid() != PARENT:
                sys.exit("the program that asked for this is gone")
            for kept, took_s in zip(samples, self._devices.timed(work, indices), strict=True):
                kept.append(took_s)
        return samples

    def _add(self, name: str, subject: str, unit: str, samples: list[float]) -> None:
        self.figures.append({"name": name, "subject": subject, "unit": unit, "samples": samples})

    def _places(self) -> list[torch.device]:
        return [self._devices.place(index) for index in range(self._devices.count)]


def _copied(target: torch.Tensor, source: torch.Tensor, _index: int) -> None:
    target.copy_(source, non_blocking=True)


def all_reduce(kind: str, ranks: int) -> dict[str, Any]:
    """Return the figure of a sum over `ranks` processes, in bus bandwidth as nccl-tests defines it."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, args=(kind, ranks, folder), nprocs=ranks)
        samples = json.loads((Path(folder) / "samples.json").read_text(encoding="ascii"))
    subject = f"{ranks} GPUs" if kind == "cuda" else f"{ranks} processes"
    return {"name": "all-reduce", "subject": subject, "unit": "GB/s", "samples": samples}


def _rank(rank: int, kind: str, ranks: int, folder: str) -> None:
    os.environ |= {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
    if kind == "cuda":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    size = REDUCE_BYTES[kind]
    tensor = torch.zeros(size // 4, device=kind if kind == "cpu" else f"cuda:{rank}")
    samples = []
    for turn in range(13):
        dist.barrier()
        began_s = time.perf_counter()
        dist.all_reduce(tensor)
        if kind == "cuda":
            torch.cuda.synchronize()
        if turn >= 3:  # noqa: PLR2004  the first ones set up connections
            samples.append(2 * (ranks - 1) / ranks * size / 1e9 / (time.perf_counter() - began_s))
    if rank == 0:
        (Path(folder) / "samples.json").write_text(json.dumps(samples), encoding="ascii")
    dist.destroy_process_group()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--ranks", type=int, default=1)
    asked = parser.parse_args()
    devices = Devices(asked.device)
    if devices.count < (asked.ranks if asked.device == "cuda" else 1):
        sys.exit(f"PyTorch sees {devices.count} GPUs; {asked.ranks} are needed")
    burn_in = BurnIn(devices, seconds=asked.seconds)
    burn_in.run()
    figures = burn_in.figures + ([all_reduce(asked.device, asked.ranks)] if asked.ranks > 1 else [])
    print(
        json.dumps(
            {
                "schema": "leeward-burn-in/1",
                "device": asked.device,
                "torch": torch.__version__,
                "devices": devices.names(),
                "figures": figures,
                "wrong": burn_in.wrong,
            }
        )
    )


if __name__ == "__main__":
    main()
