"""Which endpoints calls go to before any picker chooses: priorities, regions, zones, panic.

The members of a service fall into levels, which stand in for each other: first by priority,
then one's own region before the others (Istio's locality failover). A level gets the share of
calls that its health allows; within a level, zones share by their size or by given weights.
All shares follow the formulae of Envoy's load balancer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from resilient.balance.endpoint import NOWHERE, EndpointStats, Locality
from resilient.core import check

Zone = tuple[str, str]
"""Region and zone: names of zones may repeat across regions."""
Name = TypeVar("Name", bound=Hashable)


class Layer(NamedTuple):
    """Endpoints that one picker chooses among, and the share of all calls that they get.

    A layer whose share is 0 stands by: it serves retries once the others have been tried.
    """

    share: float
    endpoints: tuple[EndpointStats, ...]


@check.setting
@dataclass(frozen=True, slots=True)
class Failover:
    """How calls are shared among priorities and localities.

    `overprovisioning_factor`: what the endpoints of a level can carry together, relative to
    their usual load. Default 1.4 (Envoy, Istio): a level keeps all its calls while more than
    71 % of it is usable, and 70 % of them when half is.
    `panic_ratio`: while the levels together cannot carry all calls, a level with a smaller share of usable
    endpoints also gets back those that health checks keep out. Default 0.5 (Envoy's
    `healthy_panic_threshold`); 0: only if there is nothing else. Ejected ones do not come
    back: `OutlierDetection.max_ejection_ratio` bounds those.
    `prefer_zone`: calls stay in one's own zone as far as its share of endpoints reaches, assuming
    that callers are spread evenly over the zones (Envoy's zone aware routing), and in one's own
    region while that is usable. Needs `Mesh(locality=...)` and endpoints with localities.
    `locality_weights`: shares of localities instead, by "region", "region/zone" or
    "region/zone/subzone", the longest that matches (Istio's `distribute`, Envoy's locality
    weights); a mapping is accepted. Localities that are not named get no calls while the named
    ones are usable.
    """

    overprovisioning_factor: float = 1.4
    panic_ratio: float = 0.5
    prefer_zone: bool = True
    locality_weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check.number("Failover.overprovisioning_factor", self.overprovisioning_factor, minimum=1.0)
        check.ratio("Failover.panic_ratio", self.panic_ratio)
        check.flag("Failover.prefer_zone", self.prefer_zone)
        expected = 'a mapping such as {"eu/eu-1a": 80, "eu": 20}'
        weights = check.pairs("Failover.locality_weights", self.locality_weights, expected)
        for name, weight in weights:
            check.instance("Failover.locality_weights", name, str, "localities such as 'eu/eu-1a'")
            check.number(f"Failover.locality_weights[{name!r}]", weight)
        object.__setattr__(self, "locality_weights", tuple(sorted(weights)))

    def layers(
        self, members: Sequence[EndpointStats], fit: Iterable[EndpointStats], own: Locality = NOWHERE
    ) -> list[Layer]:
        """Which endpoints get which share of the calls; those that stand by come last.

        `fit`: the members that are not ejected. The shares add up to 1, and no call is left
        without an endpoint while there is one. `own`: where this process runs.
        """
        not_ejected = set(fit)
        levels = self._levels(members, own)
        usable = [tuple(stats for stats in level if stats in not_ejected and stats.is_usable) for level in levels]
        health = [self._carries(len(some), len(level)) for some, level in zip(usable, levels, strict=True)]
        lacking = sum(health) < 1.0 - 1e-9  # three thirds are a whole, whatever floats make of them
        layers: list[Layer] = []
        for level, some, load in zip(levels, usable, priority_loads(health), strict=True):
            if load and lacking and (not some or len(some) < self.panic_ratio * len(level)):
                layers.append(Layer(load, tuple(stats for stats in level if stats in not_ejected) or level))
            elif some:
                layers += self._spread(load, level, some, own)
        return sorted(layers, key=_stands_by) or [Layer(1.0, ())]

    def _carries(self, usable: int, total: int) -> float:
        """The part of all calls that `usable` of a level's `total` endpoints can carry, 0 to 1."""
        return min(1.0, self.overprovisioning_factor * usable / total)

    def _levels(self, members: Sequence[EndpointStats], own: Locality) -> list[tuple[EndpointStats, ...]]:
        levels: dict[tuple[int, bool], list[EndpointStats]] = {}
        regional = self.prefer_zone and not self.locality_weights and own.region
        for stats in members:
            region = stats.endpoint.locality.region
            is_abroad = bool(regional and region and region != own.region)
            levels.setdefault((stats.endpoint.priority, is_abroad), []).append(stats)
        return [tuple(levels[rank]) for rank in sorted(levels)]

    def _spread(
        self, load: float, level: Sequence[EndpointStats], usable: tuple[EndpointStats, ...], own: Locality
    ) -> list[Layer]:
        """The load of a level, divided among its localities."""
        home = (own.region, own.zone)
        if self.locality_weights:
            shares = self._by_weight(level, usable)
        elif self.prefer_zone and own.zone and any(_zone(stats) == home for stats in level):
            shares = _by_zone(level, usable, home)
        else:
            shares = [Layer(1.0, usable)]
        return [Layer(load * share, endpoints) for share, endpoints in shares]

    def _by_weight(self, level: Sequence[EndpointStats], usable: Sequence[EndpointStats]) -> list[Layer]:
        """Envoy's locality weighted load balancing: a weight counts as far as its locality is usable."""
        weights = dict(self.locality_weights)
        groups, whole = _grouped(usable, self._named), _grouped(level, self._named)
        effective = {
            name: weights.get(name, 0.0) * self._carries(len(group), len(whole[name])) for name, group in groups.items()
        }
        total = sum(effective.values())
        if total == 0.0:
            return [Layer(1.0, tuple(usable))]
        return [Layer(effective[name] / total, tuple(group)) for name, group in groups.items()]

    def _named(self, stats: EndpointStats) -> str:
        """The most specific name in `locality_weights` for an endpoint's locality; "" for none."""
        locality = stats.endpoint.locality
        path = f"{locality.region}/{locality.zone}/{locality.subzone}/"
        names = [name for name, _ in self.locality_weights if path.startswith(f"{name}/")]
        return max(names, key=len, default="")


def priority_loads(health: Sequence[float]) -> list[float]:
    """The share of calls of each level, by what each can carry; they add up to 1.

    If together they cannot carry all calls, each takes its part of the excess; if none carries
    any, all calls go to the first.
    """
    total = min(1.0, sum(health))
    if total == 0.0:
        return [1.0, *[0.0] * (len(health) - 1)] if health else []
    loads: list[float] = []
    for carried in health:
        loads.append(min(max(0.0, 1.0 - sum(loads)), carried / total))
    return loads


def zone_shares(sizes: Mapping[Zone, float], home: Zone) -> dict[Zone, float]:
    """The share of calls from `home` that each zone gets (Envoy's zone aware routing).

    Callers are assumed to be spread evenly over the zones. What the endpoints at home cannot
    carry for their callers goes to the zones that have more than their own callers need, so all
    endpoints get the same in the end.
    """
    total, even = sum(sizes.values()), 1.0 / len(sizes)
    at_home = min(1.0, sizes[home] / total / even)
    spare = {zone: max(0.0, size / total - even) for zone, size in sizes.items() if zone != home}
    abroad = 0.0 if at_home > 1.0 - 1e-9 else (1.0 - at_home) / sum(spare.values())
    return {home: at_home, **{zone: abroad * room for zone, room in spare.items()}}


def _by_zone(level: Sequence[EndpointStats], usable: Sequence[EndpointStats], home: Zone) -> list[Layer]:
    groups = _grouped(usable, _zone)
    sizes = {zone: sum(stats.endpoint.weight for stats in groups.get(zone, ())) for zone in _grouped(level, _zone)}
    shares = zone_shares(sizes, home)
    return [Layer(shares[zone], tuple(group)) for zone, group in groups.items()]


def _zone(stats: EndpointStats) -> Zone:
    return stats.endpoint.locality.region, stats.endpoint.locality.zone


def _grouped(
    endpoints: Iterable[EndpointStats], name_of: Callable[[EndpointStats], Name]
) -> dict[Name, list[EndpointStats]]:
    groups: dict[Name, list[EndpointStats]] = {}
    for stats in endpoints:
        groups.setdefault(name_of(stats), []).append(stats)
    return groups


def _stands_by(layer: Layer) -> bool:
    return layer.share == 0.0
