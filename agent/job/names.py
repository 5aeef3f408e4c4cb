"""Which names a run uses, so that runs at the same time do not meet."""

import secrets
from dataclasses import dataclass, replace
from typing import Final

from agent.job.config import Config

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes: no vowels, so no words
_LONGEST_JOB: Final = 63  # the Job's name becomes a label of its pods


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one run's objects."""

    run: str
    """Names the run itself; random."""
    job: str
    account: str
    """Of the ServiceAccount, and of the Role, ClusterRole and bindings."""
    own_rbac: bool
    """The RBAC objects are for this run alone and are deleted when it ends."""
    output_namespace: str
    output_name: str
    own_output: bool
    """The ConfigMap is for this run alone and is deleted when it ends."""

    @property
    def output(self) -> str:
        return f"cm://{self.output_namespace}/{self.output_name}"

    def aside(self, *, job: bool = False, rbac: bool = False) -> "Names":
        """The same run under names nobody else uses, for the Job, the RBAC objects, or both."""
        return replace(
            self,
            job=_with_ending(self.job, self.run) if job else self.job,
            account=_with_ending(self.account, self.run) if rbac else self.account,
            own_rbac=self.own_rbac or rbac,
        )


def choose(config: Config) -> Names:
    """The names a run begins with."""
    run = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    job = _with_ending(config.job_name, run) if config.unique_name else config.job_name
    if config.output:
        namespace, _, name = config.output.removeprefix("cm://").partition("/")
        return Names(run, job, config.service_account_name, config.cleanup_rbac, namespace, name, own_output=False)
    # Never the name a CronJob or a colleague may use: what this run writes, this run deletes.
    own = _with_ending(f"{config.job_name}-snapshot", run)
    return Names(run, job, config.service_account_name, config.cleanup_rbac, config.namespace, own, own_output=True)


def _with_ending(name: str, ending: str) -> str:
    return f"{name[: _LONGEST_JOB - len(ending) - 1].rstrip('-.')}-{ending}"
