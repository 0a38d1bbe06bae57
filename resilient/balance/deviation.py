"""Which peers differ too far from the others: the arithmetic of outlier detection."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum, sqrt
from typing import TypeVar

Peer = TypeVar("Peer")

RATE_MARGIN = 0.05
"""Success rates closer to the mean are no outliers: among five equal peers one lone failure
already lies two standard deviations out."""
LATENCY_MARGIN = 0.005
"""Seconds; medians closer to that of the peers differ by network path, not by health."""
LATENCY_PEERS = 3
"""Fewer than three cannot tell which of them is the odd one."""


def success_rate_outliers(rates: Mapping[Peer, float], factor: float) -> list[Peer]:
    """Peers whose rate is below the mean by more than `factor` standard deviations, worst first.

    "the success rate is less than (mean - stdev * factor)", of the population - gRFC A50.
    """
    if not rates:
        return []
    mean = fsum(rates.values()) / len(rates)
    deviation = sqrt(fsum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
    threshold = min(mean - factor * deviation, mean - RATE_MARGIN)
    return sorted((peer for peer, rate in rates.items() if rate < threshold), key=lambda peer: rates[peer])


def latency_outliers(medians: Mapping[Peer, float], factor: float) -> list[Peer]:
    """Peers whose median is more than `factor` times the median of all, slowest first.

    A median of medians: what the slow ones take cannot move the measure they are held to.
    """
    if len(medians) < LATENCY_PEERS:
        return []
    from statistics import median  # takes long to load, for a rule that is off by default

    usual = median(medians.values())
    threshold = max(usual * factor, usual + LATENCY_MARGIN)
    return sorted((peer for peer, value in medians.items() if value > threshold), key=lambda peer: -medians[peer])
