"""Simulated agents: thousands in one process, the real protocol over real TLS, content from five of tests/hosts.

    python -m tests.fleet.simulator --port PORT --directory DIRECTORY --count N [--naming counted] [--contents N]

Commands come as lines on standard input, answers as lines of JSON on standard output:

    connect        all agents dial; answers when all are linked
    change NODE    that node (by number) reports another swappiness from now on
    stats          CPU seconds and resident memory of this process
"""

import argparse
import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common import wire
from common.canonical import Domain, content_digest, encode
from common.model import MeasurementType, Scalar
from common.section import IdentityContent, Own, Pieces, read_identity, split
from common.version import SCHEMA, VERSION
from common.wire import PROTOCOL, Blob, Blobs, Collect, Hello, Ping, Pong, Report, SectionDigests, Want
from tests.fleet.dial import Dialled, dial
from tests.fleet.hosts import hosts
from tests.fleet.naming import NAMINGS
from tests.fleet.profiles import Kind

_DIALLING_AT_ONCE: Final = 400


class Templates:
    """The pieces of each kind of node, made once; a node differs from its template by identity alone."""

    def __init__(self) -> None:
        self._pieces: dict[str, Pieces] = {}
        self._compressed: dict[bytes, bytes] = {}

    def of(self, kind: Kind) -> Pieces:
        """The template of a kind."""
        if kind.name not in self._pieces:
            self._pieces[kind.name] = split(kind.snapshot(f"template-{kind.name}"))
        return self._pieces[kind.name]

    def compressed(self, digest: bytes, content: bytes) -> bytes:
        """As it is sent."""
        import zstandard

        if digest not in self._compressed:
            self._compressed[digest] = zstandard.compress(content, 3)
        return self._compressed[digest]


class SimulatedAgent:
    """One agent: its kind's template, but for identity and what `change` sets."""

    def __init__(self, name: str, kind: Kind, templates: Templates) -> None:
        self.name = name
        self.kind = kind
        self.link: Dialled | None = None
        self._templates = templates
        self._pieces = templates.of(kind)
        self._contents: dict[bytes, bytes] = {}
        self._sections: dict[MeasurementType, SectionDigests] = {}
        self._said: dict[MeasurementType, SectionDigests] = {}
        self._said_outcome: bytes | None = None
        for section in self._pieces.sections:
            self._sections[section.kind] = self._with_own_identity(section)

    def change(self, swappiness: str) -> None:
        """Another value of one sysctl from now on."""
        self.change_sysctls({"/proc/sys/vm/swappiness": swappiness})

    def differ(self, number: int) -> None:
        """Sysctls of few values each whose combination no other node has: no two nodes are one group."""
        self.change_sysctls({f"/proc/sys/own/bit{bit}": str(number >> bit & 1) for bit in range(20)})

    def change_sysctls(self, values: dict[str, Scalar]) -> None:
        """Other values of some sysctls from now on."""
        changes: dict[tuple[str, str, str], Scalar | None] = {("OS", "sysctl", key): values[key] for key in values}
        pieces = split(self.kind.snapshot(self.name, changes))
        own = pieces.contents.keys() - self._pieces.contents.keys()
        self._contents.update((digest, pieces.contents[digest]) for digest in own)
        for section in pieces.sections:
            if section.kind is MeasurementType.OS:
                self._sections[section.kind] = SectionDigests(
                    section.kind, section.stable, self._sections[section.kind].identity
                )

    def _with_own_identity(self, section: SectionDigests) -> SectionDigests:
        if section.identity is None:
            return section
        template = read_identity(self._pieces.contents[section.identity])
        content = encode(IdentityContent(section.kind, dict(self._renamed(template))))
        digest = content_digest(Domain.IDENTITY, content)
        self._contents[digest] = content
        return SectionDigests(section.kind, section.stable, digest)

    def _renamed(self, template: IdentityContent) -> Iterator[tuple[str, Own]]:
        for subtype, own in template.subtypes.items():
            yield subtype, Own({key: f"{value}-{self.name}" for key, value in own.data.items()}, own.context)

    async def run(
        self, context: ssl.SSLContext, port: int, token: str, address: str = "127.0.0.1", name: str = "localhost"
    ) -> None:
        """Dial once. Raises ConnectionError when there is no link for it."""
        self.link = await dial(context, port, token, self._on_message, address=address, name=name)
        if self.link.status != 101:
            raise ConnectionError(f"{self.name}: {self.link.status} {self.link.answer!r}")
        self.link.send(wire.encode(Hello(PROTOCOL, SCHEMA, VERSION)))

    def _on_message(self, link: Dialled, opcode: int, payload: bytes) -> None:
        if opcode != 2:
            return
        said = wire.from_aggregator(payload)
        if isinstance(said, Collect):
            link.send(wire.encode(self._report(said.run)))
        elif isinstance(said, Want):
            link.send(wire.encode(self._answer(said)))
        elif isinstance(said, Ping):
            link.send(wire.encode(Pong(said.number)))

    def _report(self, run: str) -> Report:
        changed = [s for kind, s in self._sections.items() if self._said.get(kind) is not s]
        outcome = None if self._said_outcome else self._pieces.outcome
        self._said.update(self._sections)
        self._said_outcome = self._pieces.outcome
        return Report(run, changed, outcome, 0.05)

    def _answer(self, want: Want) -> Blobs:
        blobs = []
        for digest in want.digests:
            content = self._contents.get(digest) or self._pieces.contents[digest]
            blobs.append(Blob(digest, self._templates.compressed(digest, content)))
        return Blobs(blobs)


async def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--server-name", default="localhost", help="what the aggregator's certificate must bear")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--naming", choices=sorted(NAMINGS), default="counted")
    parser.add_argument("--contents", type=int, default=0, help="distinct nodes, when more than the five kinds")
    options = parser.parse_args()
    templates = Templates()
    agents = []
    kinds = hosts()
    for number in range(options.count):
        agent = SimulatedAgent(NAMINGS[options.naming](number), kinds[number % len(kinds)], templates)
        if options.contents:
            agent.differ(number % options.contents)
        agents.append(agent)
    context = ssl.create_default_context(cadata=(options.directory / "ca.crt").read_text())
    loop = asyncio.get_running_loop()
    _say({"ready": len(agents)})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *arguments = line.split()
        began = time.monotonic()
        if command == "connect":
            await _connect(agents, context, options)
        elif command == "change":
            agents[int(arguments[0])].change(arguments[1])
        used = resource.getrusage(resource.RUSAGE_SELF)
        _say(
            {
                "done": command,
                "seconds": time.monotonic() - began,
                "cpu": used.ru_utime + used.ru_stime,
                "rss_mb": used.ru_maxrss / 1024,
                "down": sum(agent.link is None or agent.link.ended.done() for agent in agents),
            }
        )


async def _connect(agents: list[SimulatedAgent], context: ssl.SSLContext, options: argparse.Namespace) -> None:
    gate = asyncio.Semaphore(_DIALLING_AT_ONCE)

    async def connect(agent: SimulatedAgent) -> None:
        async with gate:
            token = (options.directory / "tokens" / agent.name).read_text()
            await agent.run(context, options.port, token, options.address, options.server_name)

    await asyncio.gather(*map(connect, agents))


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
