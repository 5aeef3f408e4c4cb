"""What an aggregator may do at the moment."""

from enum import StrEnum


class Duty(StrEnum):
    """Of several aggregators of one fleet, one leads."""

    STANDBY = "standby"
    """Nothing yet: another leads, or this one is still starting."""
    LEADING = "leading"
    """Agents and users are served."""
    SUSPENDED = "suspended"
    """It cannot tell whether it still leads: users may read what is known, agents are sent away."""
