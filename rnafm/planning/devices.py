"""Devices and networks as their makers describe them, and what of it programs reach."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU.

    Args:
        title: Its name.
        flops: Peak of dense matrix products in bfloat16 per second (without sparsity).
        single: The same for 32-bit numbers, as TF32.
        memory: Bytes that a process can use, of those that are sold.
        bandwidth: Bytes per second from its memory.
        bfloat16: Whether it computes in bfloat16 at all.
    """

    title: str
    flops: float
    single: float
    memory: float
    bandwidth: float
    bfloat16: bool = True


_GIB = float(1 << 30)

# NVIDIA's data sheets (SXM boards); a few per cent of the memory are the driver's.
DEVICES = {
    "a100": Device("A100 80 GB", 312e12, 156e12, 79 * _GIB, 2.0e12),
    "a100-40": Device("A100 40 GB", 312e12, 156e12, 39 * _GIB, 1.55e12),
    "h100": Device("H100", 989e12, 494e12, 79 * _GIB, 3.35e12),
    "h200": Device("H200", 989e12, 494e12, 139 * _GIB, 4.8e12),
    "v100": Device("V100 32 GB", 125e12, 15.7e12, 31 * _GIB, 0.9e12, bfloat16=False),
}


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
