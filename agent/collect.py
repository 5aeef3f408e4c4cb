"""Runs collectors side by side, each under a deadline, and puts what they return into a Snapshot."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agent.collectors.base import Collector, Context, Options
from agent.host import Host
from common.collection import collection_lines
from common.errors import UsageError
from common.kube.own_node import own_node
from common.model import (
    Collected,
    FailureCode,
    Metadata,
    Ok,
    Snapshot,
    Subtype,
    in_order,
)
from common.stability import Rules, Stability, default_rules
from common.version import VERSION

DEFAULT_DEADLINE: Final = 30.0
"""Seconds a collector may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one collector returned, and how long it took in seconds (the deadline when it never did)."""

    collector: Collector
    collected: Collected
    seconds: float


def run(
    collectors: Sequence[Collector],
    host: Host,
    node: str,
    options: Options,
    seconds: float = DEFAULT_DEADLINE,
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Run all collectors at the same time and return their answers in the collectors' order.

    `on_answer` hears of each answer as it comes, in the caller's thread.

    Each runs in a daemon thread of its own. One that has not returned after `seconds` counts as failed and is
    abandoned: a thread in a hung system call cannot be stopped, and must not hold up the others or the exit.
    """
    started = time.monotonic()
    ctx = Context(host=host, node=node, deadline=started + seconds, options=options)
    answers: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
    for index, collector in enumerate(collectors):
        thread = threading.Thread(
            target=_run_one, args=(index, collector, ctx, answers), name=f"collect-{collector.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the limit on processes; what does run is still worth having
            refused = Collected.failed(FailureCode.INTERNAL, "no thread could be started for it")
            answers.put((index, Answer(collector, refused, 0.0)))
    done: dict[int, Answer] = {}
    while len(done) < len(collectors):
        try:
            index, answer = answers.get(timeout=max(0.0, ctx.deadline - time.monotonic()))
        except queue.Empty:
            break
        done[index] = answer
        on_answer(answer)
    return [
        done.get(index) or Answer(collector, _late(seconds), seconds) for index, collector in enumerate(collectors)
    ]


def _late(seconds: float) -> Collected:
    return Collected.failed(FailureCode.TIMEOUT, f"no answer within {seconds:g} s")


def _run_one(
    index: int, collector: Collector, ctx: Context, answers: "queue.SimpleQueue[tuple[int, Answer]]"
) -> None:
    started = time.monotonic()
    try:
        collected = collector.collect(ctx)
    except Exception as error:  # a defect in one collector must not cost the others' data
        collected = Collected.failed(FailureCode.INTERNAL, f"the collector broke: {type(error).__name__}: {error}")
    answers.put((index, Answer(collector, collected, time.monotonic() - started)))


def select(collectors: Sequence[Collector], names: Iterable[str]) -> list[Collector]:
    """The collectors with the given names or measurement types (case ignored), in registry order."""
    wanted = {name.strip().lower() for name in names if name.strip()}
    known = {collector.name for collector in collectors} | {c.type.value.lower() for c in collectors}
    if unknown := sorted(wanted - known):
        raise UsageError(f"there is no collector {unknown[0]!r}", f"Choose from: {', '.join(sorted(known))}.")
    return [c for c in collectors if not wanted or c.name in wanted or c.type.value.lower() in wanted]


def snapshot(
    answers: Iterable[Answer],
    node: str,
    include_volatile: bool = False,
    now: datetime | None = None,
    rules: Rules | None = None,
) -> Snapshot:
    """Put answers into one document. Facts of the volatile class are left out unless asked for."""
    rules = rules or default_rules()
    wanted = set(Stability) if include_volatile else {Stability.STABLE, Stability.IDENTITY}
    answers = list(answers)
    subtypes = [
        (answer.collector.type, Subtype(name, data, outcome.context))
        for answer in answers
        for name, outcome in answer.collected.subtypes.items()
        if isinstance(outcome, Ok)
        and ((data := rules.select(answer.collector.type.value, name, outcome.data, wanted)) or not outcome.data)
    ]
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Snapshot(
        metadata=Metadata(version=VERSION, source_node=node, timestamp=stamp),
        collection=[
            line
            for answer in answers
            for line in collection_lines(answer.collector.name, answer.collector.type, answer.collected)
        ],
        measurements=in_order(subtypes),
    )


def node_name(environment: Mapping[str, str], host: Host) -> str:
    """The node's name: NODE_NAME, KUBERNETES_NODE_NAME, what a pod's token says, HOSTNAME, what the host is called.

    In a pod that has a network of its own, HOSTNAME is the pod's name.
    """
    for variable in ("NODE_NAME", "KUBERNETES_NODE_NAME"):
        if name := environment.get(variable, "").strip():
            return name
    if name := own_node(environment) or environment.get("HOSTNAME", "").strip():
        return name
    try:
        return host.read_text("/proc/sys/kernel/hostname").strip() or "unknown"
    except OSError:
        return "unknown"
