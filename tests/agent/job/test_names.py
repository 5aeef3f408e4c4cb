"""Names of runs at the same time never meet, and always fit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.job.config import Config
from agent.job.names import choose

# A DNS-1123 label of at most 63 characters, which the Job's name must be because it becomes a label of its pods.
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
names = st.from_regex(LABEL, fullmatch=True)


def test_the_documented_names_are_the_default() -> None:
    chosen = choose(Config())
    assert (chosen.job, chosen.account, chosen.own_rbac) == ("eidos", "eidos", False)


def test_without_an_output_the_run_has_one_of_its_own() -> None:
    one, other = choose(Config()), choose(Config())
    assert one.own_output
    assert re.fullmatch(r"cm://gpu-operator/eidos-snapshot-[a-z0-9]{8}", one.output)
    assert one.output != other.output


def test_a_given_output_is_kept() -> None:
    chosen = choose(Config(output="cm://monitoring/node-state"))
    assert (chosen.output_namespace, chosen.output_name, chosen.own_output) == ("monitoring", "node-state", False)
    assert chosen.output == "cm://monitoring/node-state"


def test_a_unique_name_and_stepping_aside_use_the_name_of_the_run() -> None:
    chosen = choose(Config(unique_name=True))
    assert chosen.job == f"eidos-{chosen.run}"
    aside = choose(Config()).aside(job=True, rbac=True)
    assert (aside.job, aside.account, aside.own_rbac) == (f"eidos-{aside.run}", f"eidos-{aside.run}", True)


def test_rbac_that_is_to_be_cleaned_up_is_the_runs_own() -> None:
    assert choose(Config(cleanup_rbac=True)).own_rbac


def test_a_thousand_runs_have_a_thousand_names() -> None:
    assert len({choose(Config(unique_name=True)).job for _ in range(1000)}) == 1000


@given(names, st.booleans())
def test_every_name_is_valid(name: str, unique: bool) -> None:
    chosen = choose(Config(job_name=name, service_account_name=name, unique_name=unique))
    aside = chosen.aside(job=True, rbac=True)
    for made in (chosen.job, aside.job, aside.account, chosen.output_name):
        assert LABEL.fullmatch(made), made


@pytest.mark.parametrize("ending", ["-", ".", "-.-"])
def test_a_name_is_not_cut_within_its_separators(ending: str) -> None:
    name = "a" * (54 - len(ending)) + ending + "bcdefghijkl"
    made = choose(Config(job_name=name)).aside(job=True).job
    assert re.fullmatch(r"a+-[a-z0-9]{8}", made)
