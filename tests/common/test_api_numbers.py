"""Numbers on their way through the Kubernetes API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.api_numbers import for_the_api, from_the_api
from common.formats import Format, dump, load_snapshot
from common.model import MeasurementType, Scalar, Snapshot, Subtype, in_order
from tests.common.test_section import keys, scalars, snapshot_of

INFINITY = (1 << 64) - 1
numbers = st.integers(-(1 << 63), INFINITY) | st.sampled_from([INFINITY, 1 << 63, (1 << 63) - 1])


def systemd_of(data: dict[str, Scalar]) -> Snapshot:
    return snapshot_of("n1", in_order([(MeasurementType.SYSTEMD, Subtype("kubelet.service", data))]))


@given(st.dictionaries(keys, numbers | scalars, max_size=5))
def test_no_number_is_beyond_int64_and_all_are_read_back(data: dict[str, Scalar]) -> None:
    sent = for_the_api(systemd_of(data))
    values = sent.measurements[0].subtypes[0].data
    assert all(value < 1 << 63 for value in values.values() if isinstance(value, int))
    assert {key: from_the_api(MeasurementType.SYSTEMD, value) for key, value in values.items()} == data


@pytest.mark.parametrize("text", ["18446744073709551616", "9223372036854775807", "018446744073709551615", "١" * 19])
def test_other_text_stays_text(text: str) -> None:
    assert from_the_api(MeasurementType.SYSTEMD, text) == text
    assert from_the_api(MeasurementType.OS, str(INFINITY)) == str(INFINITY), "sysctls are text however great"


def test_what_kubectl_wrote_reads_as_what_eidos_wrote() -> None:
    snapshot = systemd_of({"CPUQuotaPerSecUSec": INFINITY})
    through = dump(for_the_api(snapshot), Format.YAML)
    assert b"'18446744073709551615'" in through or b'"18446744073709551615"' in through
    assert load_snapshot(through, "n1.yaml") == snapshot
    lines = b"".join(b"  " + line for line in through.splitlines(keepends=True))
    wrapped = b"apiVersion: fleet.eidos.nvidia.com/v1alpha1\nkind: NodeSnapshot\nmetadata:\n  name: n1\nsnapshot:\n"
    assert load_snapshot(wrapped + lines, "-") == snapshot
