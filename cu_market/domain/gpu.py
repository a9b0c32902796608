"""One name for each GPU model, however a catalogue, a driver or a person spells it."""

from __future__ import annotations

import re

_NOISE = frozenset(
    {"AMPERE", "GB", "GENERATION", "GEFORCE", "GPU", "HBM3", "NVIDIA", "NVLINK", "PCIE", "TESLA"}
)
_FORM = re.compile(r"^SXM\d?$")
_MEMORY = re.compile(r"^(\d+)(GB|G|GIB)$")
_SIZES_THAT_COUNT = {"A100": frozenset({"80"}), "V100": frozenset({"32"})}
"""Models sold with two memories under one name: the larger one keeps its size in the name."""


def normalise_gpu_name(said: str) -> str:
    """Returns the model's name: ``NVIDIA A100-SXM4-80GB`` and ``a100-80gb`` give ``A100-80GB``.

    Vendors, buses and form factors are dropped; a memory size stays only where one model is sold
    with two (A100-80GB, V100-32GB). A name of which nothing would be left stays as it is, in
    capitals.
    """
    parts: list[str] = []
    size = ""
    for part in re.split(r"[\s_/-]+", said.strip().upper()):
        memory = _MEMORY.match(part)
        if memory:
            size = memory[1]
        elif part and part not in _NOISE and not _FORM.match(part):
            parts.append(part)
    if not parts:
        return said.strip().upper()
    name = "-".join(parts).replace("RTX-A", "RTXA")
    name = re.sub(r"^RTX-(?=\d)", "RTX", name)
    return f"{name}-{size}GB" if size in _SIZES_THAT_COUNT.get(name, ()) else name
