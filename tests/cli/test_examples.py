"""The examples of the documentation that are not run on the tests' cluster."""

from pathlib import Path

import yaml

_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_the_workflow_installs_nothing_from_a_package_index_by_our_name() -> None:
    """Whoever has the name there would be given the cluster's credentials."""
    workflow = yaml.safe_load((_EXAMPLES / "github-actions.yaml").read_text())
    steps = workflow["jobs"]["snapshot"]["steps"]
    (install,) = (step["run"] for step in steps if "pip install" in step.get("run", ""))
    assert install == 'pip install "./eidos[kubernetes]"'
    (source,) = (step["with"] for step in steps if step.get("with", {}).get("path") == "eidos")
    assert source["ref"].startswith("v")
