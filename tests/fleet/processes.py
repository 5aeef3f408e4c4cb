"""A local fleet's aggregator, agents and simulators as real processes, and a client for the API."""

import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGTERM, Signals
from typing import IO, Any, Final

_STARTS_WITHIN: Final = 60.0
_ANSWERS_WITHIN: Final = 180.0
"""Longer than the longest run, whose document may take its time on a busy machine."""
_ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
}


class Process:
    """A Python module run as a process of its own; its log goes to a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        stdin: bool = False,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.log = log
        self._file: IO[bytes] = log.open("wb")
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._file,
            env={**_ENVIRONMENT, **(environment or {})},
            cwd=Path(__file__).parents[2],
        )

    @property
    def output(self) -> IO[bytes]:
        """What it prints."""
        assert self.process.stdout is not None
        return self.process.stdout

    def read_line(self) -> dict[str, Any]:
        """The next line of JSON it prints. Raises RuntimeError with its log when it has ended instead."""
        line = self.output.readline()
        if not line:
            raise RuntimeError(f"the process ended: {self.log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def command(self, line: str) -> dict[str, Any]:
        """Send a line, get one back."""
        self.tell(line)
        return self.read_line()

    def signal(self, number: Signals) -> None:
        """Send a signal to this one process."""
        self.process.send_signal(number)

    def end(self, number: Signals = SIGTERM) -> int:
        """End it, and its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(SIGCONT)
            self.process.send_signal(number)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._file):
            if stream is not None:
                stream.close()
        return status

    def status(self) -> dict[str, int]:
        """Memory in bytes: `rss` now, `peak` so far; `cpu` in milliseconds."""
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            if ":" in line
        )
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return {
            "rss": int(fields["VmRSS"].split()[0]) * 1024,
            "peak": int(fields["VmHWM"].split()[0]) * 1024,
            "cpu": (int(times[11]) + int(times[12])) * 1000 // ticks,
        }


class Aggregator(Process):
    """`python -m aggregator --local`, serving."""

    def __init__(
        self,
        directory: Path,
        nodes: str,
        link_port: int = 0,
        api_port: int = 0,
        address: str = "127.0.0.1",
        through: Sequence[str] = (),
    ) -> None:
        """`through` is a module that runs it (tests.fleet.stepping)."""
        ports = ["--link-port", str(link_port), "--api-port", str(api_port), "--address", address]
        self.address = address
        self.directory = directory
        super().__init__(
            [*through, "aggregator", "--local", str(directory), "--nodes", nodes, *ports, "--log-level", "warning"],
            directory.with_name(f"{directory.name}-aggregator.log"),
        )
        ports_used = self.read_line()
        self.link_port: int = ports_used["link_port"]
        self.api_port: int = ports_used["api_port"]
        self.client = Client(f"{address}:{self.api_port}", directory)

    @property
    def url(self) -> str:
        """Where agents dial."""
        return f"https://{self.address}:{self.link_port}"


class Agent(Process):
    """`python -m agent`, dialling."""

    def __init__(
        self,
        aggregator: Aggregator,
        node: str,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        through: Sequence[str] = (),
    ) -> None:
        self.node = node
        directory = aggregator.directory
        super().__init__(
            [*through, "agent", "--aggregator", aggregator.url, "--node", node, "--health-port", "0",
             "--ca-file", str(directory / "ca.crt"), "--token-file", str(directory / "tokens" / node)],
            directory.with_name(f"{directory.name}-agent-{node}-{time.monotonic_ns()}.log"),
            environment=environment,
            prefix=prefix,
        )  # fmt: skip


class Rogue(Process):
    """`python -m tests.fleet.rogue`: an agent that misbehaves in one way, once it is linked or refused."""

    def __init__(
        self, aggregator: Aggregator, how: str, node: str, token_file: Path | None = None, contents: str = ""
    ) -> None:
        """`contents` is what no agent had before, unless several are given the same."""
        self.node = node
        directory = aggregator.directory
        arguments = [how, node, "--port", str(aggregator.link_port), "--directory", str(directory)]
        arguments += ["--token-file", str(token_file)] if token_file else []
        arguments += ["--contents", contents or f"{time.monotonic_ns()}"]
        log = directory.with_name(f"{directory.name}-rogue-{node}-{time.monotonic_ns()}.log")
        super().__init__(["tests.fleet.rogue", *arguments], log, stdin=True)
        self.dialled = self.read_line()


class Client:
    """A user of the API."""

    def __init__(self, address: str, directory: Path) -> None:
        """`address` is host:port."""
        self._address = address
        self._directory = directory

    def request(
        self, path: str, body: object = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of one request; POST when there is a body."""
        with self._asked(path, body, headers, method) as response:
            return response.status, response.read(), dict(response.headers)

    def follow(self, path: str) -> Iterator[Any]:
        """The lines of an answer, as they come. It is asked for when the first one is."""
        with self._asked(path) as response:
            while line := response.readline():
                yield json.loads(line)

    @contextmanager
    def _asked(
        self, path: str, body: object = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        token = (self._directory / "user-token").read_text()
        context = ssl.create_default_context(cadata=(self._directory / "ca.crt").read_text())
        connection = http.client.HTTPSConnection(self._address, context=context, timeout=_ANSWERS_WITHIN)
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {token}", **(headers or {})},
            )
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """A JSON document. Raises AssertionError when the answer is not 200."""
        status, body, _ = self.request(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def run(self, seconds: float = 10.0, **request: object) -> Any:
        """A run's FleetSnapshot."""
        status, body, _ = self.request("/v1/runs", {"seconds": seconds, **request})
        assert status == 200, (status, body)
        return json.loads(body)

    def metric(self, name: str) -> float:
        """One sample of /metrics, named with its labels; 0 when it is not there."""
        _, body, _ = self.request("/metrics")
        for line in body.decode().splitlines():
            if line.rsplit(" ", 1)[0] == name:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_for(self, name: str, value: float, within: float = _STARTS_WITHIN) -> None:
        """Until a metric is at least this."""
        until = time.monotonic() + within
        while (seen := self.metric(name)) < value:
            if time.monotonic() > until:
                raise AssertionError(f"{name} is {seen} and not {value} after {within:g} s")
            time.sleep(0.05)
