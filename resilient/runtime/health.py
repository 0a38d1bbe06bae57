"""Checks the health of endpoints, in the loop of the control thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

from resilient.balance.endpoint import EndpointStats
from resilient.core.bound import Bound
from resilient.policy.health import HealthCheck, HealthState
from resilient.runtime.asking import Ask, Verdict, asker

log = logging.getLogger("resilient.health")

_AT_ONCE = 32  # checks of one service


class HealthChecker:
    """Checks the endpoints of one service, each when it is due.

    All methods but `changed` are called in the control loop. Raises ConfigError if the protocol
    needs a package that is not installed.
    """

    def __init__(
        self, bound: Bound, setting: HealthCheck, clock: Callable[[], float], rng: Random, ask: Ask | None = None
    ) -> None:
        self.bound = bound
        self.setting = setting
        self.clock = clock
        self.rng = rng
        self.places = asyncio.Semaphore(_AT_ONCE)
        self._ask = ask or asker(setting, bound.name)
        self._turns: dict[EndpointStats, _Turn] = {}
        self._was_called = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._follow_members()

    def changed(self) -> None:
        """The members have changed; may be called from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._follow_members)

    def cancel(self) -> None:
        """End, in the running loop."""
        self._loop = None
        for turn in self._turns.values():
            turn.cancel()
        self._turns.clear()

    def _follow_members(self) -> None:
        if self._loop is None:
            return
        members = self.bound.members
        for stats in self._turns.keys() - set(members):
            self._turns.pop(stats).cancel()
        for stats in members:  # in their order, so that a seed makes the checks repeatable
            if stats not in self._turns:
                self._turns[stats] = _Turn(self, stats, self._loop)

    def was_called(self) -> bool:
        """True if the service was ever called."""
        self._was_called = self._was_called or any(stats.requests for stats in self.bound.members)
        return self._was_called

    async def check(self, stats: EndpointStats) -> Verdict:
        """Ask an endpoint when its turn comes; whatever goes wrong is a bad answer."""
        try:
            async with self.places, asyncio.timeout(self.setting.timeout):
                return await self._ask(stats.endpoint)
        except TimeoutError:
            return Verdict(ok=False, reason=f"no answer in {self.setting.timeout:g} s")
        except Exception as error:
            return Verdict(ok=False, reason=str(error) or type(error).__name__)


class _Turn:
    """The checks of one endpoint, for as long as it is a member.

    A timer until the next one is due, and a task only during a check: there may be thousands
    of endpoints.
    """

    __slots__ = ("_checker", "_failing", "_loop", "_next", "_seen", "_state", "_stats")

    def __init__(self, checker: HealthChecker, stats: EndpointStats, loop: asyncio.AbstractEventLoop) -> None:
        self._checker = checker
        self._stats = stats
        self._loop = loop
        self._state = HealthState(checker.setting, new=stats.unhealthy_until is not None)
        self._failing = False
        self._wait(self._state.first_at(checker.clock(), checker.rng))

    def cancel(self) -> None:
        """End."""
        self._next.cancel()

    def _wait(self, due: float) -> None:
        self._seen = self._stats.requests
        delay = max(0.0, due - self._checker.clock())
        self._next: asyncio.TimerHandle | asyncio.Task[None] = self._loop.call_later(delay, self._begin)

    def _begin(self) -> None:
        if self._stats.unhealthy_until is not None:
            self._state.fail()
        if self._is_concerned():
            self._next = self._loop.create_task(self._check())
        else:
            self._go_on()

    def _is_concerned(self) -> bool:
        """True if the endpoint has to be asked."""
        stats, only = self._stats, self._checker.setting.only
        if stats.unhealthy_until is not None or only == "all":
            return True
        return only == "idle" and (stats.ejected_until is not None or stats.requests == self._seen)

    async def _check(self) -> None:
        verdict = await self._checker.check(self._stats)
        try:
            self._learn(verdict)
            self._failing = False
        except Exception:  # such as a user's balancer that breaks
            if not self._failing:
                log.exception(
                    "%s: a health check of %s could not be processed", self._checker.bound.name, self._stats.address
                )
            self._failing = True
        self._go_on()

    def _go_on(self) -> None:
        checker = self._checker
        self._wait(self._state.next_at(checker.clock(), checker.rng, traffic=checker.was_called()))

    def _learn(self, verdict: Verdict) -> None:
        bound, stats, state = self._checker.bound, self._stats, self._state
        now = self._checker.clock()
        changed = state.observe(ok=verdict.ok, at_once=verdict.at_once)
        if changed and state.healthy:
            log.info("%s: %s is healthy", bound.name, stats.address)
        elif changed:
            log.warning("%s: %s is unhealthy: %s", bound.name, stats.address, verdict.reason)
        if not state.healthy:
            bound.mark_unhealthy(stats, now + self._checker.setting.lease, now)
        else:
            bound.mark_healthy(stats, now)
        if stats.ejected_until is not None and state.recovers(ok=verdict.ok):
            log.info("%s: %s is well: its ejection ends", bound.name, stats.address)
            bound.restore(stats, now)
