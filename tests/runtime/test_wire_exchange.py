"""What may be said of a request that has failed."""

from __future__ import annotations

import socket
import ssl
from unittest.mock import Mock

import httpcore2
import httpx
import pytest

from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.runtime.wire import WireSettings
from resilient.runtime.wire.blocking import SocketStream
from resilient.runtime.wire.exchange import Exchange
from resilient.runtime.wire.faults import translate
from resilient.runtime.wire.link import Generation, Link
from tests.runtime.wires import request


def a_link() -> Link:
    return Link(Endpoint("127.0.0.1", 1), WireSettings(), Generation())


def an_exchange(**kwargs: object) -> Exchange:
    asked = request(**kwargs)
    return Exchange(asked, asked.extensions)


@pytest.mark.parametrize(("kind", "writes"), [(socket.socket, 0), (ssl.SSLSocket, 1)])
def test_a_failed_first_write_has_moved_nothing_unless_records_are_written(kind, writes) -> None:
    link = a_link()
    sock = Mock(spec=kind)
    sock.gettimeout.return_value = None
    sock.send.side_effect = BrokenPipeError
    with pytest.raises(httpcore2.WriteError):
        SocketStream(sock, link).write(b"GET")
    assert link.writes == writes


def test_it_is_unsent_until_its_link_has_written() -> None:
    link, exchange = a_link(), an_exchange()
    assert exchange.unsent
    link.writes = 5
    exchange.begin(link)
    assert exchange.unsent
    link.writes += 1
    assert not exchange.unsent


def test_it_is_stale_only_on_a_link_that_has_served_and_is_silent_since() -> None:
    link, exchange = a_link(), an_exchange()
    exchange.begin(link)
    assert not exchange.stale
    link.reads = 1
    assert not exchange.stale
    exchange.begin(link)
    assert exchange.stale
    link.reads += 1
    assert not exchange.stale


def test_one_that_was_turned_away_before_it_was_a_stream_has_not_left() -> None:
    link, exchange = a_link(), an_exchange()
    exchange.begin(link)
    link.writes += 1  # by another request
    exchange.turned_away()
    assert exchange.unsent
    assert not exchange.resent


def test_a_stream_moves_once() -> None:
    exchange = an_exchange(method="POST", content=b"pay")
    exchange.begin(a_link())
    exchange.note("http2.send_request_headers.started", {"stream_id": 3})
    exchange.turned_away()
    assert exchange.resent
    assert not exchange.unsent
    exchange.begin(a_link())
    exchange.note("http2.send_request_headers.started", {"stream_id": 5})
    with pytest.raises(httpcore2.RemoteProtocolError, match="goes away") as caught:
        exchange.turned_away()
    assert exchange.refused(caught.value)


@pytest.mark.parametrize(("stream", "last", "refused"), [(3, 1, True), (3, 3, False), (3, 5, False), (None, 0, True)])
def test_a_goaway_refuses_the_streams_above_its_last(stream, last, refused) -> None:
    exchange = an_exchange()
    if stream is not None:
        exchange.note("http2.send_request_headers.started", {"stream_id": stream})
    error = httpcore2.RemoteProtocolError(
        Mock(spec=["last_stream_id", "error_code"], last_stream_id=last, error_code=7)
    )
    assert exchange.refused(error) is refused


MAPPED = [name for name in HTTPX.errors if hasattr(httpcore2, name)]


@pytest.mark.parametrize("name", MAPPED)
def test_every_error_of_httpcore_becomes_the_one_of_the_same_name(name) -> None:
    exchange = an_exchange()
    error = translate(getattr(httpcore2, name)("text"), exchange, HTTPX)
    assert type(error) is getattr(httpx, name)
    assert str(error) == "text"
    assert error.request is exchange.request


def test_there_are_many_of_them() -> None:
    assert len(MAPPED) >= 12


def test_the_cause_speaks_for_an_error_without_words() -> None:
    inner = OSError()
    inner.__cause__ = OSError("certificate unknown")
    error = translate(httpcore2.ConnectError(inner), an_exchange(), HTTPX)
    assert str(error) == "certificate unknown"


def test_errors_that_are_not_of_the_wire_are_left_alone() -> None:
    assert translate(RuntimeError("yours"), an_exchange(), HTTPX) is None


def test_nothing_is_proven_of_a_second_try_if_the_first_had_left() -> None:
    error = translate(httpcore2.ConnectError("no"), an_exchange(), HTTPX, fresh=False)
    assert error.unsent is False
