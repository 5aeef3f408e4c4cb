"""Running collectors side by side: deadlines, breakage, order, and the document that comes of it."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

import agent.collect
from agent.collect import Answer, node_name, run, select, snapshot
from agent.collectors.base import Collector, Context, Options
from agent.collectors.registry import collectors
from agent.host import Host
from common.errors import UsageError
from common.formats import Format, dump, load_snapshot
from common.model import Absent, Collected, Failed, FailureCode, MeasurementType, Ok, Outcome, Scalar, State
from common.stability import Rules, parse_rules
from common.version import VERSION

SOON = 0.3  # seconds of deadline where it is meant to pass
AMPLE = 60.0


class Fake:
    """A collector that does what it is told."""

    def __init__(
        self, name: str, act: Callable[[Context], Collected], kind: MeasurementType = MeasurementType.OS
    ) -> None:
        self.name = name
        self.type = kind
        self._act = act

    def collect(self, ctx: Context) -> Collected:
        return self._act(ctx)


def giving(name: str, subtypes: dict[str, Outcome] | None = None) -> Fake:
    return Fake(name, lambda ctx: Collected.of(subtypes if subtypes is not None else {name: Ok({"k": name})}))


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What a hanging collector waits for; set at the end of the test, so that its thread ends too."""
    event = threading.Event()
    yield event
    event.set()


def collect(*fakes: Collector, seconds: float = AMPLE) -> list[Answer]:
    return run(fakes, Host("/nonexistent"), "node-1", Options(), seconds)


def raising(error: BaseException) -> Callable[[Context], Collected]:
    def act(ctx: Context) -> Collected:
        raise error

    return act


# ---- running ----


def test_answers_come_in_the_order_of_the_collectors() -> None:
    first_may_end, second_ended = threading.Event(), threading.Event()

    def first(ctx: Context) -> Collected:
        assert second_ended.wait(AMPLE)
        first_may_end.set()
        return Collected.of({"a": Ok({})})

    def second(ctx: Context) -> Collected:
        second_ended.set()
        return Collected.of({"b": Ok({})})

    answers = collect(Fake("first", first), Fake("second", second))
    assert first_may_end.is_set()
    assert [answer.collector.name for answer in answers] == ["first", "second"]
    assert all(0 <= answer.seconds < AMPLE for answer in answers)


def test_all_run_at_the_same_time() -> None:
    together = threading.Barrier(5, timeout=AMPLE)

    def act(ctx: Context) -> Collected:
        together.wait()  # breaks unless all five are there
        return Collected.of({})

    assert all(answer.collected.state is State.OK for answer in collect(*(Fake(name, act) for name in "abcde")))


def test_nothing_to_run() -> None:
    assert collect() == []


def test_collectors_get_host_node_options_and_deadline() -> None:
    seen: list[Context] = []

    def act(ctx: Context) -> Collected:
        seen.append(ctx)
        return Collected.of({})

    host, options = Host("/x"), Options(include_volatile=True)
    run([Fake("a", act), Fake("b", act)], host, "n", options, AMPLE)
    assert {(id(ctx.host), ctx.node, ctx.options) for ctx in seen} == {(id(host), "n", options)}
    assert len({ctx.deadline for ctx in seen}) == 1


def test_one_that_breaks_costs_only_its_own_data() -> None:
    answers = collect(giving("good"), Fake("bad", raising(KeyError("x"))), giving("also"))
    assert [answer.collected.state for answer in answers] == [State.OK, State.FAILED, State.OK]
    assert answers[1].collected.ending == Failed(FailureCode.INTERNAL, "the collector broke: KeyError: 'x'")


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), OSError(5, "io"), UnicodeDecodeError("a", b"", 0, 1, "r")]
)
def test_any_exception_is_a_failure(error: Exception) -> None:
    [answer] = collect(Fake("bad", raising(error)))
    assert isinstance(answer.collected.ending, Failed)
    assert answer.collected.ending.code is FailureCode.INTERNAL


def test_one_that_hangs_is_abandoned_at_the_deadline(hang: threading.Event) -> None:
    started = threading.Event()

    def hanging(ctx: Context) -> Collected:
        started.set()
        hang.wait()
        return Collected.of({"late": Ok({"k": 1})})

    answers = collect(giving("good"), Fake("stuck", hanging), giving("also"), seconds=SOON)
    assert [answer.collected.state for answer in answers] == [State.OK, State.FAILED, State.OK]
    assert answers[1].collected.ending == Failed(FailureCode.TIMEOUT, "no answer within 0.3 s")
    assert answers[1].seconds == SOON
    assert started.wait(AMPLE)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "collect-stuck"]
    assert thread.daemon  # it does not hold up the exit


def test_an_answer_after_the_deadline_changes_nothing(hang: threading.Event) -> None:
    def hanging(ctx: Context) -> Collected:
        hang.wait()
        return Collected.of({"late": Ok({"k": 1})})

    answers = collect(Fake("stuck", hanging), seconds=SOON)
    hang.set()
    for thread in threading.enumerate():
        if thread.name == "collect-stuck":
            thread.join()
    assert answers[0].collected.subtypes == {}


def test_answers_that_are_there_when_the_deadline_passes_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(agent.collect, "time", SimpleNamespace(monotonic=lambda: now))

    def on_answer(answer: Answer) -> None:
        nonlocal now
        for thread in threading.enumerate():
            if thread.name.startswith("collect-"):
                thread.join()  # so the other's answer is there, too
        now = 2 * AMPLE

    answers = run([giving("a"), giving("b")], Host("/nonexistent"), "n", Options(), AMPLE, on_answer)
    assert [answer.collected.state for answer in answers] == [State.OK, State.OK]


def test_each_answer_is_told_as_it_comes(hang: threading.Event) -> None:
    told: list[str] = []

    def hanging(ctx: Context) -> Collected:
        hang.wait()
        return Collected.of({})

    fakes = [Fake("stuck", hanging), giving("good")]
    thread = threading.get_ident()

    def on_answer(answer: Answer) -> None:
        assert threading.get_ident() == thread
        told.append(answer.collector.name)

    run(fakes, Host("/nonexistent"), "n", Options(), SOON, on_answer)
    assert told == ["good"]


def test_no_more_threads_is_a_failure_of_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "collect-second":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    answers = collect(giving("first"), giving("second"), giving("third"))
    assert [answer.collected.state for answer in answers] == [State.OK, State.FAILED, State.OK]
    assert answers[1].collected.ending == Failed(FailureCode.INTERNAL, "no thread could be started for it")


# ---- choosing ----

FAKES = [giving("release"), giving("sysctl"), Fake("gpu", lambda ctx: Collected.of({}), MeasurementType.GPU)]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], ["release", "sysctl", "gpu"]),
        (["", " "], ["release", "sysctl", "gpu"]),
        (["sysctl"], ["sysctl"]),
        (["gpu", "release"], ["release", "gpu"]),
        (["OS"], ["release", "sysctl"]),
        (["os", "GPU", "release"], ["release", "sysctl", "gpu"]),
        ([" Sysctl "], ["sysctl"]),
    ],
)
def test_choosing_collectors(names: list[str], chosen: list[str]) -> None:
    assert [collector.name for collector in select(FAKES, names)] == chosen


def test_a_collector_there_is_not() -> None:
    with pytest.raises(UsageError, match="there is no collector 'fpga'") as caught:
        select(FAKES, ["gpu", "fpga"])
    assert caught.value.hint == "Choose from: gpu, os, release, sysctl."


def test_registered_collectors_have_names_of_their_own() -> None:
    names = [collector.name for collector in collectors()]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and name.strip() for name in names)
    kinds = {kind.value.lower(): kind for kind in MeasurementType}
    assert all(kinds.get(collector.name, collector.type) is collector.type for collector in collectors())


# ---- the document ----

RULES = Rules(
    parse_rules(
        '[[rule]]\nclass = "volatile"\nsubtype = "OS.*"\nwhy = "w"\nkeys = ["count*"]\n'
        '[[rule]]\nclass = "identity"\nsubtype = "OS.*"\nwhy = "w"\nkeys = ["serial"]\n'
    )
)
NOW = datetime(2026, 1, 2, 4, 4, 5, 999999, tzinfo=timezone(timedelta(hours=1)))


def answer(collected: Collected, name: str = "c", kind: MeasurementType = MeasurementType.OS) -> Answer:
    return Answer(Fake(name, lambda ctx: collected, kind), collected, 0.1)


def test_the_document_says_who_and_when() -> None:
    document = snapshot([], "node-1", now=NOW)
    assert (document.metadata.version, document.metadata.source_node) == (VERSION, "node-1")
    assert document.metadata.timestamp == "2026-01-02T03:04:05Z"
    before = datetime.now(UTC).replace(microsecond=0)
    stamp = datetime.fromisoformat(snapshot([], "n").metadata.timestamp)
    assert before <= stamp <= datetime.now(UTC)


def test_volatile_facts_are_left_out_unless_asked_for() -> None:
    data: dict[str, Scalar] = {"k": 1, "count": 2, "serial": "s"}
    answers = [answer(Collected.of({"a": Ok(data), "b": Ok({"count": 1}), "c": Ok({})}))]
    kept = {s.subtype: s.data for m in snapshot(answers, "n", rules=RULES).measurements for s in m.subtypes}
    assert kept == {"a": {"k": 1, "serial": "s"}, "c": {}}
    whole = snapshot(answers, "n", include_volatile=True, rules=RULES)
    kept = {s.subtype: s.data for m in whole.measurements for s in m.subtypes}
    assert kept == {"a": data, "b": {"count": 1}, "c": {}}
    assert snapshot(answers, "n", rules=RULES).collection[0].subtypes == ("a", "b", "c")


def test_every_collector_has_a_line_and_every_subtype_that_was_not_read() -> None:
    answers = [
        answer(
            Collected.of({"z": Ok({"k": 1}), "b": Failed(FailureCode.MALFORMED, "bad"), "a": Absent("none")}), "os"
        ),
        answer(Collected.absent("no GPU"), "gpu", MeasurementType.GPU),
        answer(
            Collected.failed(FailureCode.BUS_UNREACHABLE, "no bus", {"u": Ok({"k": 1})}),
            "systemd",
            MeasurementType.SYSTEMD,
        ),
        answer(Collected.of({"only": Failed(FailureCode.MALFORMED, "bad")}), "last"),
    ]
    lines = [
        (e.collector, e.type.value, e.state.value, e.subtype, e.code, e.reason, e.subtypes)
        for e in snapshot(answers, "n", now=NOW).collection
    ]
    assert lines == [
        ("os", "OS", "partial", "", None, "", ("z",)),
        ("os", "OS", "absent", "a", None, "none", ()),
        ("os", "OS", "failed", "b", FailureCode.MALFORMED, "bad", ()),
        ("gpu", "GPU", "absent", "", None, "no GPU", ()),
        ("systemd", "SystemD", "failed", "", FailureCode.BUS_UNREACHABLE, "no bus", ("u",)),
        ("last", "OS", "failed", "", None, "", ()),
        ("last", "OS", "failed", "only", FailureCode.MALFORMED, "bad", ()),
    ]


def test_what_one_collector_read_before_it_failed_is_kept() -> None:
    document = snapshot([answer(Collected.failed(FailureCode.TIMEOUT, "late", {"u": Ok({"k": 1})}))], "n")
    assert document.facts() == {("OS", "u", "k"): 1}


def test_context_is_kept_and_measurements_are_in_order() -> None:
    answers = [
        answer(Collected.of({"b": Ok({"z": 1, "a": 2}, {"unit": "s"})}), "topology", MeasurementType.NODE_TOPOLOGY),
        answer(Collected.of({"b": Ok({"k": 1}), "a": Ok({"k": 1})}), "os"),
        answer(Collected.of({"c": Ok({"k": 1})}), "more"),
    ]
    document = snapshot(answers, "n", now=NOW)
    shape = [
        (m.type.value, [(s.subtype, list(s.data), s.context) for s in m.subtypes]) for m in document.measurements
    ]
    assert shape == [
        ("OS", [("a", ["k"], {}), ("b", ["k"], {}), ("c", ["k"], {})]),
        ("NodeTopology", [("b", ["a", "z"], {"unit": "s"})]),
    ]
    assert load_snapshot(dump(document, Format.YAML), "x") == document


def test_two_collectors_that_give_one_subtype_lose_nothing() -> None:
    one, other = Collected.of({"a": Ok({"k": 1, "l": 1})}), Collected.of({"a": Ok({"k": 2})})
    assert len(snapshot([answer(one), answer(other)], "n").facts()) == 3


def test_the_same_answers_give_the_same_bytes() -> None:
    def document() -> bytes:
        answers = collect(giving("b"), giving("a"), Fake("bad", raising(ValueError("x"))))
        return dump(snapshot(answers, "n", now=NOW), Format.YAML)

    assert len({document() for _ in range(20)}) == 1


# ---- the node's name ----


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"NODE_NAME": "a", "KUBERNETES_NODE_NAME": "b", "HOSTNAME": "c"}, "a"),
        ({"KUBERNETES_NODE_NAME": "b", "HOSTNAME": "c"}, "b"),
        ({"NODE_NAME": " ", "HOSTNAME": " c\n"}, "c"),
        ({"NODE_NAME": ""}, "of-the-host"),
        ({}, "of-the-host"),
    ],
)
def test_where_the_nodes_name_comes_from(tmp_path: Path, environment: dict[str, str], name: str) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_text("of-the-host\n")
    assert node_name(environment, Host(str(tmp_path))) == name


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_node_without_a_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/hostname").write_text(content)
    assert node_name({}, Host(str(tmp_path))) == "unknown"
