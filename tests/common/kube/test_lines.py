from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.kube.lines import LineTooLongError, split_lines


async def _chunks(content: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    places = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    for start, end in pairwise(places):
        yield content[start:end]


async def _split(content: bytes, cuts: list[int], limit: int = 1 << 20, *, cut: bool = False) -> list[bytes]:
    return [line async for line in split_lines(_chunks(content, cuts), limit, cut=cut)]


@given(content=st.binary() | st.text("ab\n").map(str.encode), cuts=st.lists(st.integers(0, 200)))
async def test_lines_do_not_depend_on_how_the_bytes_arrive(content: bytes, cuts: list[int]) -> None:
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert await _split(content, cuts) == expected


@given(content=st.text("ab\n").map(str.encode), cuts=st.lists(st.integers(0, 200)), limit=st.integers(1, 5))
async def test_cut_lines_lose_nothing(content: bytes, cuts: list[int], limit: int) -> None:
    pieces = await _split(content, cuts, limit, cut=True)
    assert all(len(piece) <= limit for piece in pieces)
    assert b"".join(pieces) == content.replace(b"\n", b"")


@pytest.mark.parametrize("content", [b"abcdef", b"abcdef\n", b"a\nabcdef\nb"])
async def test_a_line_too_long_raises(content: bytes) -> None:
    with pytest.raises(LineTooLongError):
        await _split(content, [3], 5)
