"""Tests of the Deployer: what it makes, what it makes of what it sees, and what it leaves."""
