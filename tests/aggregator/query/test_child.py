"""The process that evaluates: what it is given of ours, and what ends it when nobody is left to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from aggregator.query import _evaluate
from aggregator.query_child import Answer, Request, Verdict

TEN = "[0,1,2,3,4,5,6,7,8,9]"
BUSY = Request(f"{TEN}.all(a,{TEN}.all(b,{TEN}.all(c,a+b+c >= 0)))", [], [[]] * 60_000, 1)
"""Seconds of work, each row within its steps."""
DOUBLING = "['" + "a" * 64 + "']" + ".map(x,x+x)" * 28 + ".size() > 0"
"""16 GiB of text at its end."""
COUNTING = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "aggregator.query_child"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""
SECRETS = {
    "EIDOS_TOKEN": "its-token",
    "EIDOS_TOKEN_FILE": "/its-token-file",
    "KUBECONFIG": "/its-kubeconfig",
    "KUBERNETES_SERVICE_HOST": "192.0.2.1",
    "POD_NAME": "its-pod",
}


def child(without: str) -> int:
    """How the child ends on work that is too much, with one of its two limits taken away."""
    program = f"{without}; from aggregator.query_child import main; main()"
    given = msgspec.msgpack.encode(BUSY)
    return subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, check=False).returncode


def test_a_child_that_computes_for_too_long_ends_of_itself() -> None:
    """Killed by the kernel, whether anybody waits for it or not."""
    assert child("import signal; signal.alarm = lambda seconds: 0") in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_child_that_takes_too_long_otherwise_ends_of_itself() -> None:
    """One that has no processor, or waits."""
    only_time = "import resource as r; set = r.setrlimit; r.setrlimit = lambda w, l: w == r.RLIMIT_CPU or set(w, l)"
    assert child(only_time) == -signal.SIGALRM


def test_a_child_that_takes_too_much_memory_gets_none() -> None:
    """Counted by a small process: of what starts it, Linux counts the memory as the child's too."""
    given = msgspec.msgpack.encode(Request(DOUBLING, [], [[]], 5))
    counted = subprocess.run([sys.executable, "-c", COUNTING], input=given, capture_output=True, check=True).stdout
    assert int(counted) < 400 << 20


async def test_the_child_gets_no_token_and_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What escapes from an expression's evaluation finds nothing to go on with."""
    seen = tmp_path / "seen"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os; open({str(seen)!r}, 'w').write(chr(10).join(f'{{k}}={{v}}' for k, v in os.environ.items()))"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    request = msgspec.msgpack.encode(Request("1 < 2", [], [[]], 5))
    assert await _evaluate(request) == Answer([Verdict(True)])
    environment = dict(line.partition("=")[::2] for line in seen.read_text().splitlines())
    assert environment["PYTHONPATH"] == path, "it did look"
    assert environment.keys() <= {"PATH", "PYTHONPATH", "LANG", "LC_CTYPE"}
    assert not set(SECRETS.values()) & set(environment.values())
