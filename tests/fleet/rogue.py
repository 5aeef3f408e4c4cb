"""One agent that misbehaves on purpose, as a process of its own: the real protocol over real TLS, until it is not.

    python -m tests.fleet.rogue HOW NODE --port PORT --directory DIRECTORY [--contents TEXT]

It says on standard output {"status": …, "answer": …} when its dialling has ended, {"asked": COUNT} when it is asked
for content, {"ended": …} when its link has; it ends with its standard input. HOW it misbehaves:

    honest    not at all
    garbage   answers Collect with bytes that are no message
    liar      sends other content than it is asked for
    drip      sends what it is asked for byte by byte, and so never ends
    holder    keeps what it is asked for, until it reads a line
    frames    answers Collect with more frames than it may
    oversize  answers Collect with a message that is too large
"""

import argparse
import asyncio
import json
import ssl
import sys
from pathlib import Path

from aggregator.blobs import compress
from common import wire
from common.wire import MAX_FRAME, Blob, Blobs, Collect, Pong, Want
from tests.fleet.dial import Dialled
from tests.fleet.profiles import PROFILES
from tests.fleet.simulator import SimulatedAgent, Templates


class Rogue(SimulatedAgent):
    """See the module's docstring."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__(name, PROFILES[0], Templates())
        self._how = how
        self._kept: list[Want] = []
        self._dripping: asyncio.Task[None] | None = None

    def _on_message(self, link: Dialled, opcode: int, payload: bytes) -> None:
        said = wire.from_aggregator(payload) if opcode == 2 else None
        if isinstance(said, Collect) and self._how == "garbage":
            link.send(b"\xc1 is no MessagePack")
        elif isinstance(said, Collect) and self._how == "oversize":
            link.send(bytes(MAX_FRAME + 1))
        elif isinstance(said, Collect) and self._how == "frames":
            for number in range(1000):
                link.send(wire.encode(Pong(number)))
        elif isinstance(said, Want) and self._how != "honest":
            say({"asked": len(said.digests)})
            self._misanswer(link, said)
        else:
            super()._on_message(link, opcode, payload)

    def _misanswer(self, link: Dialled, want: Want) -> None:
        if self._how == "liar":
            link.send(wire.encode(Blobs([Blob(want.digests[0], compress(b"something else"))])))
        elif self._how == "holder":
            self._kept.append(want)
        elif self._how == "given":
            link.send(wire.encode(self._answer(want)))
        else:
            # The head of a message whose end is far away.
            link.transport.write(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + bytes(4))
            self._dripping = asyncio.get_running_loop().create_task(self._drip(link))

    async def _drip(self, link: Dialled) -> None:
        while not link.ended.done():
            link.transport.write(b"x")
            await asyncio.wait([link.ended], timeout=0.05)

    def give(self) -> None:
        """What it kept back, and from now on all it is asked for."""
        self._how = "given"
        for want in self._kept:
            if self.link is not None:
                self.link.send(wire.encode(self._answer(want)))


async def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how")
    parser.add_argument("node")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--contents", required=True, help="what no agent had before: it must be fetched")
    options = parser.parse_args()
    agent = Rogue(options.node, options.how)
    agent.change(options.contents)
    token_file = options.token_file or options.directory / "tokens" / options.node
    context = ssl.create_default_context(cadata=(options.directory / "ca.crt").read_text())
    try:
        await agent.run(context, options.port, token_file.read_text())
    except ConnectionError:
        assert agent.link is not None
        await agent.link.ended  # by then its whole answer is here
        say({"status": agent.link.status, "answer": agent.link.answer.decode()})
        return
    assert agent.link is not None
    say({"status": agent.link.status, "answer": ""})
    agent.link.ended.add_done_callback(lambda ended: say({"ended": True}))
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        agent.give()


def say(answer: dict[str, object]) -> None:
    """One line for the test."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
