"""Which nodes an expression is true for: CEL over the facts of the last snapshot.

The expression is evaluated once for every distinct combination of the facts it names, in a process of its own that is
ended when it is late: whatever is asked, the aggregator goes on, and decision 012 says what else bounds it.
"""

import asyncio
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from aggregator.beside import beside
from aggregator.fleet import Fleet
from aggregator.query_child import NO_MEMORY, Answer, Given, Request, Verdict
from aggregator.query_facts import FactTable, Row, usable
from aggregator.query_names import Name, Named, find_names, variable
from aggregator.query_words import refusal, refuse_whole, undecided
from aggregator.run import Run
from aggregator.turns import Turns
from common.errors import Code, FleetError, UsageError
from common.fleet import FleetSnapshot
from common.fleet_api import Match, QueryBody, QueryGroup, QueryResult
from common.model import Scalar
from common.nodeset import fold_names

_log: Final = logging.getLogger(__name__)

_SECONDS: Final = 5
"""Of the child's own time; it may wait for a processor for as long again."""
_MOST_REQUEST: Final = 16 << 20
_LOGGED: Final = 1000
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG")
"""All of ours that the child gets: no token, no address."""
_MOST_GROUPS: Final = 100
_LATE: Final = "the expression takes more time or memory than a query may"

_MATCH: Final = {True: Match.MATCHED, False: Match.NOT_MATCHED, None: Match.UNDECIDED}
_ORDER: Final = {Match.MATCHED: 0, Match.UNDECIDED: 1, Match.NOT_MATCHED: 2}


class Queries:
    """Answers queries over one fleet, a few at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._turns = Turns()

    async def answer(self, body: QueryBody, run: Run, document: FleetSnapshot) -> QueryResult:
        """What the expression gives on the nodes of a document.

        Raises UsageError, with line and column, when the expression cannot be evaluated; FleetError when too many
        queries wait already.
        """
        named = find_names(body.expression)
        async with self._turns.taken():
            with self._fleet.reading_content():
                table = await beside(self._table, named, document)
            refuse_whole(named, table.rows)
            answer = await _evaluate(await beside(_request, named, table.rows))
        if answer.fault:
            raise refusal(answer.fault, named)
        return await beside(_result, body, run, document, named, table, answer.verdicts)

    def _table(self, named: Named, document: FleetSnapshot) -> FactTable:
        return FactTable(document, named.names, self._fleet.own_values)


def _request(named: Named, rows: Sequence[Row]) -> bytes:
    variables = [variable(number) for number in range(len(named.uses))]
    facts = [[usable(row.cells[use.name], use.takes) for use in named.uses] for row in rows]
    request = Request(named.expression, variables, facts, _SECONDS, [*named.constants])
    encoded = msgspec.msgpack.encode(request)
    if len(encoded) > _MOST_REQUEST:
        raise UsageError(
            f"the facts named are more than {_MOST_REQUEST >> 20} MiB", "Name single facts instead of whole subtypes."
        )
    return encoded


async def _evaluate(request: bytes) -> Answer:
    """Have the child evaluate it, which has `_SECONDS` of its own time and twice that of ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aggregator.query_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name in _ENVIRONMENT if (value := os.environ.get(name)) is not None},
    )
    try:
        async with asyncio.timeout(2 * _SECONDS):
            answer, complaint = await process.communicate(request)
    except TimeoutError as error:
        raise UsageError(_LATE, "Shorten it, or name fewer facts.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == NO_MEMORY or (process.returncode or 0) < 0:  # a signal: its own limits
        raise UsageError(_LATE, "Shorten it, or name fewer facts.")
    if process.returncode:
        _log.error("query failed", extra={"detail": complaint[-_LOGGED:].decode(errors="replace")})
        raise FleetError(
            Code.FLEET_FAILED,
            "the process that evaluates queries failed",
            "The log of the aggregator has the details.",
        )
    return msgspec.msgpack.decode(answer, type=Answer)


def _result(
    body: QueryBody, run: Run, document: FleetSnapshot, named: Named, table: FactTable, verdicts: Sequence[Verdict]
) -> QueryResult:
    counts = dict.fromkeys(Match, 0)
    matched: list[str] = []
    judged: list[tuple[Match, Row, str]] = []
    for row, verdict in zip(table.rows, verdicts, strict=True):
        match = (
            Match.UNDECIDED if verdict.matches is None else Match.MATCHED if verdict.matches else Match.NOT_MATCHED
        )
        counts[match] += len(row.nodes)
        if match is Match.MATCHED:
            matched.extend(row.nodes)
        judged.append((match, row, undecided(verdict.reason, named, row.cells)))
    matched.sort()
    groups, left_out = _groups(named.names, judged)
    rest = [node for node in matched if node > body.after]
    page = rest[: body.limit]
    return QueryResult(
        expression=body.expression,
        run=run.id,
        matched=counts[Match.MATCHED],
        not_matched=counts[Match.NOT_MATCHED],
        undecided=counts[Match.UNDECIDED],
        unknown=document.summary.expected - sum(counts.values()),
        nodes=fold_names(matched),
        items=page,
        continue_after=page[-1] if len(rest) > len(page) else "",
        groups=groups,
        left_out=left_out,
        nowhere=table.nowhere,
    )


def _groups(names: Sequence[Name], judged: Iterable[tuple[Match, Row, str]]) -> tuple[list[QueryGroup], int]:
    """What is told of the rows, and of how many more nothing. Rows that differ in nothing that is told are one."""
    groups: dict[bytes, QueryGroup] = {}
    members: dict[bytes, list[str]] = defaultdict(list)
    for match, row, reason in judged:
        group = QueryGroup(match, 0, "", _values(names, row), reason)
        alike = msgspec.msgpack.encode(group)
        groups[alike] = group
        members[alike].extend(row.nodes)
    told = sorted(groups, key=lambda alike: (_ORDER[groups[alike].result], -len(members[alike]), min(members[alike])))
    first = [
        replace(groups[alike], count=len(members[alike]), nodes=fold_names(members[alike]))
        for alike in told[:_MOST_GROUPS]
    ]
    return first, len(told) - len(first)


def _values(names: Sequence[Name], row: Row) -> dict[str, Scalar]:
    """The single facts; whole subtypes are not shown."""
    return {
        name.text if not name.is_test else f"has({name.text})": cell.value
        for name, cell in zip(names, row.cells, strict=True)
        if isinstance(cell, Given) and not isinstance(cell.value, dict)
    }
