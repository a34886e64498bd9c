"""Devices and networks as their makers describe them, and what of it programs reach."""

from __future__ import annotations

import functools
import math
import re
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU.

    Args:
        title: Its name.
        flops: Peak of dense matrix products in bfloat16 per second, summed in 32 bits (without
            sparsity); in float16 where it has no bfloat16.
        single: The same for 32-bit numbers, as TF32 where it has that.
        memory: Bytes that a process can use, of those that are sold.
        bandwidth: Bytes per second from its memory.
        pattern: What torch calls it, without the names of maker and series; a regular expression.
        bfloat16: Whether it computes in bfloat16 at all.
    """

    title: str
    flops: float
    single: float
    memory: float
    bandwidth: float
    pattern: str
    bfloat16: bool = True


_GIB = float(1 << 30)

# NVIDIA's data sheets and, for consumer and workstation cards, the white papers of GA102, Ada and
# RTX Blackwell. Many sheets state figures with sparsity, twice those here. GeForce cards halve
# their rate where they sum in 32 bits, as torch does. Some of the memory is the driver's.
DEVICES = {
    "a100": Device("A100 80 GB", 312e12, 156e12, 79 * _GIB, 2.0e12, "A100[- ].*80GB.*"),
    "a100-40": Device("A100 40 GB", 312e12, 156e12, 39 * _GIB, 1.55e12, "A100-.*40GB"),
    "h100": Device("H100", 989e12, 494e12, 79 * _GIB, 3.35e12, "H100 80GB HBM3|GH200 .*"),
    "h100-pcie": Device("H100 PCIe", 756e12, 378e12, 79 * _GIB, 2.0e12, "H100 PCIe"),
    "h100-nvl": Device("H100 NVL", 835e12, 417e12, 93 * _GIB, 3.9e12, "H100 NVL"),
    "h200": Device("H200", 989e12, 494e12, 139 * _GIB, 4.8e12, "H200"),
    "h200-nvl": Device("H200 NVL", 835e12, 417e12, 139 * _GIB, 4.8e12, "H200 NVL"),
    "b200": Device("B200", 2250e12, 1100e12, 178 * _GIB, 7.7e12, "B200"),
    "gb200": Device("GB200", 2500e12, 1250e12, 184 * _GIB, 8.0e12, "GB200"),
    "l40s": Device("L40S", 362e12, 183e12, 44 * _GIB, 0.864e12, "L40S"),
    "l40": Device("L40", 181e12, 90.5e12, 44 * _GIB, 0.864e12, "L40"),
    "l4": Device("L4", 121e12, 60e12, 22 * _GIB, 0.3e12, "L4"),
    "a40": Device("A40", 149.7e12, 74.8e12, 44 * _GIB, 0.696e12, "A40"),
    "a6000": Device("RTX A6000", 154.8e12, 77.4e12, 47 * _GIB, 0.768e12, "RTX A6000"),
    "rtx6000-ada": Device(
        "RTX 6000 Ada", 364.2e12, 182.1e12, 47 * _GIB, 0.96e12, "RTX 6000 Ada Generation"
    ),
    "rtx3090": Device("RTX 3090", 71e12, 35.6e12, 23 * _GIB, 0.936e12, "RTX 3090"),
    "rtx4090": Device("RTX 4090", 165.2e12, 82.6e12, 23 * _GIB, 1.008e12, "RTX 4090"),
    "rtx5090": Device("RTX 5090", 209.5e12, 104.8e12, 31 * _GIB, 1.792e12, "RTX 5090"),
    "v100": Device(
        "V100 32 GB", 125e12, 15.7e12, 31 * _GIB, 0.9e12, "V100-SXM[23]-.*", bfloat16=False
    ),
    "v100-pcie": Device(
        "V100 PCIe", 112e12, 14e12, 31 * _GIB, 0.9e12, "V100-PCIE-.*", bfloat16=False
    ),
    "t4": Device("T4", 65e12, 8.1e12, 14 * _GIB, 0.3e12, "T4", bfloat16=False),
}


def find_device(name: str) -> Device | None:
    """The device that torch calls so; None for one that is not in the table.

    Part of a GPU (MIG) and cards of laptops, which have the name of others and less power, are not.

    Args:
        name: What ``torch.cuda.get_device_name()`` gives.

    Examples:
        >>> find_device("NVIDIA H100 80GB HBM3").title
        'H100'
        >>> find_device("NVIDIA GeForce RTX 4090 Laptop GPU")
    """
    if "MIG" in name:
        return None
    short = re.sub(r"^(NVIDIA )?(GeForce |Tesla )?", "", name)
    found = (each for each in DEVICES.values() if re.fullmatch(each.pattern, short))
    return next(found, None)


@functools.cache
def processor_flops(threads: int) -> float:  # noqa: ARG001  # what it is kept under
    """What matrix products in 32 bits reach per second on this processor, measured once: 0.1 s.

    Args:
        threads: Of torch at the moment; another number is another measurement.
    """
    import torch

    size, best = 768, math.inf
    matrix = torch.ones(size, size)
    product = matrix @ matrix  # the first one warms up
    end = time.perf_counter() + 0.1
    while (begin := time.perf_counter()) < end:
        torch.mm(matrix, matrix, out=product)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


@dataclass(frozen=True)
class Network:
    """What connects devices.

    Collectives run in rings through all devices of a node and, where there are several, through
    all its network cards at once, so the slower of the two decides.

    Args:
        title: Its name.
        inside: Bytes per second and device in one direction within a node, as reached.
        between: Bytes per second and node in one direction between nodes, as reached.
        latency: Seconds of a message between nodes.
        node: Devices of a node.
    """

    title: str
    inside: float
    between: float
    latency: float = 5e-6
    node: int = 8

    def gather(self, size: float, devices: int, messages: int = 1) -> float:
        """Seconds to gather a whole of this size from all devices, or to reduce and scatter it.

        Args:
            size: Bytes of the whole.
            devices: How many have a share.
            messages: Parts that it is sent in, one after the other.
        """
        rate = self.inside if devices <= self.node else min(self.inside, self.between)
        steps = math.log2(devices) if devices > 1 else 0  # as trees; rings take longer
        latency = self.latency if devices > self.node else 2e-6
        return size * (devices - 1) / devices / rate + messages * steps * latency

    def all_reduce(self, size: float, devices: int, messages: int = 1) -> float:
        """Seconds until all devices have the sum: reduced and scattered, then gathered."""
        return 2 * self.gather(size, devices, messages)


# Peaks by the data sheets: NVLink 4 has 450 GB/s per GPU and direction; a DGX H100 has eight cards
# of 400 Gb/s. 80 % of them is assumed here, which large messages reach.
NETWORKS = {
    "infiniband": Network("NVLink, 8 x 400 Gb/s InfiniBand a node", 360e9, 320e9),
    "ethernet": Network("NVLink, 100 Gb/s Ethernet a node", 360e9, 10e9, latency=50e-6),
}
