"""What a scenario cost, as numbers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 2**30


@dataclass(slots=True)
class Figure:
    """One scenario, once. ``latencies`` are seconds, one an operation; ``bytes`` is the data
    moved (0: none); the gateway's CPU seconds and peak memory (bytes) are None where its
    processes are not known."""

    scenario: str
    seconds: float = 0.0
    bytes: int = 0
    latencies: list[float] = field(default_factory=list)
    driver_cpu: float = 0.0
    gateway_cpu: float | None = None
    peak: int | None = None

    @property
    def megabytes_per_second(self) -> float | None:
        return self.bytes / 1e6 / self.seconds if self.bytes else None

    @property
    def operations_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_per_gib(self) -> float | None:
        if self.gateway_cpu is None or not self.bytes:
            return None
        return self.gateway_cpu * GIB / self.bytes

    @property
    def cpu_per_operation(self) -> float | None:
        return None if self.gateway_cpu is None else self.gateway_cpu / len(self.latencies)

    def latency(self, share: float) -> float:
        """Seconds within which this share of the operations was done."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def followed_by(self, other: "Figure") -> "Figure":
        """Both as one: each operation is one of the first and then one of the other."""
        return Figure(
            self.scenario,
            self.seconds + other.seconds,
            self.bytes + other.bytes,
            [one + two for one, two in zip(self.latencies, other.latencies, strict=True)],
            self.driver_cpu + other.driver_cpu,
            _both(self.gateway_cpu, other.gateway_cpu),
            None if self.peak is None or other.peak is None else max(self.peak, other.peak),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "operations": len(self.latencies),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "megabytes_per_second": self.megabytes_per_second,
            "operations_per_second": self.operations_per_second,
            "latency_p50": self.latency(0.50),
            "latency_p95": self.latency(0.95),
            "latency_p99": self.latency(0.99),
            "gateway_cpu_seconds": self.gateway_cpu,
            "gateway_cpu_seconds_per_gib": self.cpu_per_gib,
            "gateway_peak_bytes": self.peak,
            "driver_cpu_seconds": self.driver_cpu,
        }


def median(figures: Sequence[Figure]) -> Figure:
    """The repetition in the middle by time; whole, so that its numbers belong together."""
    middle = statistics.median_low([figure.seconds for figure in figures])
    return next(figure for figure in figures if figure.seconds == middle)


def _both(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one + two
