"""A driver that is cut off with the outcome already in its hands."""

from __future__ import annotations

import anyio
import pytest

import resilient
from resilient.balance.endpoint import Endpoint
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Send
from resilient.runtime.tasks import TaskDriver


class Response:
    status_code = 200
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.anyio
async def test_what_the_winner_holds_is_given_back_when_the_loser_outlasts_the_caller(anyio_backend) -> None:
    """The loser of a race takes its time to be cancelled; meanwhile the caller is cancelled too."""
    import random

    policy = resilient.Policy(
        limit=resilient.Limit(max_in_flight=2), hedge=resilient.Hedge(delay=0.0, max_extra_ratio=1.0), outlier=None
    )
    bound = Bound("orders", policy, random.Random(1), HttpClassifier())
    bound.update([Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)], 0.0)
    won = anyio.Event()
    response = Response()

    async def attempt(send: Send) -> Response:
        if send.hedge:
            won.set()
            return response
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
        raise AssertionError

    call = Call(bound, is_open=lambda response: not response.closed)
    for _ in range(20):
        bound.hedge.begin(0.0)  # so that a hedge can be afforded
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(TaskDriver().drive, call, attempt)
        await won.wait()
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert response.closed
    assert (bound.in_flight, bound.limit.in_flight) == (0, 0)
