"""What a request asks, read from anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.apiservice.front_proxy import FrontProxy, Terms
from aggregator.apiservice.request import Form, Place, Selection, number, wanted_form
from aggregator.apiservice.status import StatusError
from common.errors import UsageError

TABLES = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.PLAIN),
        ("*/*", Form.PLAIN),
        ("application/json", Form.PLAIN),
        (f"{TABLES},{TABLES.replace('v=v1', 'v=v1beta1')},application/json", Form.TABLE),
        (f"application/vnd.kubernetes.protobuf, {TABLES}", Form.TABLE),
        (TABLES.replace("v=v1", "v=v1beta1") + ",application/json", Form.PLAIN),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Form.METADATA),
    ],
)
def test_the_first_form_that_is_spoken(accept: str, form: Form) -> None:
    assert wanted_form(accept) is form


def test_a_place_comes_back_as_it_went() -> None:
    place = Place(1795273424096800, "gpu-00017")
    assert Place.read(place.token()) == place


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (
        wanted_form,
        Place.read,
        lambda given: number({"limit": given}, "limit"),
        lambda given: Selection.read({"fieldSelector": given, "labelSelector": given}, frozenset(("a",))),
        lambda given: FrontProxy().accept(Terms.read({"requestheader-allowed-names": given})),
        lambda given: FrontProxy().accept(Terms.read({"requestheader-client-ca-file": given})),
    ):
        try:
            read(text)
        except (StatusError, UsageError, ValueError):
            continue
