"""Packages that take an httpx client: they get ours, and notice nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

import resilient
from tests.compat.library import FLAVOURS, LIBRARIES, World
from tests.runtime.servers import Peer, Server, serving

CHAT = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}
MESSAGE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def service(failures: int = 0, status: str = "503 Unavailable") -> Callable[[Peer], Any]:
    """Both kinds of service; the first answers are failures."""
    left = failures

    async def script(peer: Peer) -> None:
        nonlocal left
        while True:
            request = await peer.request()
            if left:
                left -= 1
                await peer.send(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nRetry-After: 0\r\n\r\n{{}}".encode())
            elif b'"stream": true' in request or b'"stream":true' in request:
                body = chunk("hel") + chunk("lo") + b"data: [DONE]\n\n"
                await peer.send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for part in (body[:70], body[70:]):
                    await peer.send(b"%x\r\n%s\r\n" % (len(part), part))
                await peer.send(b"0\r\n\r\n")
            else:
                answer = json.dumps(MESSAGE if b"/v1/messages" in request else CHAT).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                await peer.send(head.encode() + answer)

    return script


def make(world: World, module: Any, server: Server, http_client: Any, **options: Any) -> Any:
    kind = world.kind(module, module.__name__.replace("openai", "OpenAI").replace("anthropic", "Anthropic"))
    path = "/v1" if module is openai else ""
    return kind(api_key="k", base_url=f"http://{server.endpoint.address}{path}", http_client=http_client, **options)


def ask(world: World, client: Any) -> str:
    if hasattr(client, "chat"):
        return str(world.run(client.chat.completions.create, **ASK).choices[0].message.content)
    return str(world.run(client.messages.create, max_tokens=5, **ASK).content[0].text)


def stream(client: Any) -> str:
    return "".join(part.choices[0].delta.content for part in client.chat.completions.create(stream=True, **ASK))


async def stream_async(client: Any) -> str:
    parts = await client.chat.completions.create(stream=True, **ASK)
    return "".join([part.choices[0].delta.content async for part in parts])


SYNC_AND_ASYNCIO = FLAVOURS[:2]
OF_OPENAI = pytest.mark.parametrize(
    "world", [(one, two) for one in LIBRARIES for two in SYNC_AND_ASYNCIO], indirect=True
)
OF_ANTHROPIC = pytest.mark.parametrize("world", [("httpx2", flavour) for flavour in SYNC_AND_ASYNCIO], indirect=True)


@OF_OPENAI
def test_openai(world: World) -> None:
    with serving(service()) as server:
        assert ask(world, make(world, openai, server, world.ours().client)) == "hello"


@OF_ANTHROPIC
def test_anthropic(world: World) -> None:
    with serving(service()) as server:
        assert ask(world, make(world, anthropic, server, world.ours().client)) == "hello"


@OF_OPENAI
def test_streaming(world: World) -> None:
    with serving(service()) as server, resilient.Mesh() as mesh:
        client = make(world, openai, server, world.ours(mesh=mesh).client)
        assert world.run(stream_async if world.is_async else stream, client) == "hello"
        assert [bound.in_flight for bound in mesh.snapshot.hosts.values()] == [0]


@OF_OPENAI
def test_retries_of_both_layers(world: World) -> None:
    """openai's own are a second chance for what is left over."""
    with serving(service(failures=4)) as server:
        face = world.ours(policy=resilient.Policy(retry=resilient.Retry(wait=0, idempotent=True)))
        assert ask(world, make(world, openai, server, face.client, max_retries=1)) == "hello"
        assert len(server.requests) == 5


@OF_OPENAI
def test_errors(world: World) -> None:
    with serving(service(failures=1, status="404 Not Found")) as server:
        client = make(world, openai, server, world.ours().client, max_retries=0)
        with pytest.raises(openai.NotFoundError):
            ask(world, client)

    client = make(world, openai, server, world.ours().client, max_retries=0)
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(world, client)
    assert isinstance(caught.value.__cause__, world.library.ConnectError)


@OF_OPENAI
def test_closing(world: World) -> None:
    with serving(service()) as server:
        face = world.ours()
        world.run(make(world, openai, server, face.client).close)
        assert face.client.is_closed
        assert face.client.mesh.closed
