"""Tests of agent/collectors/."""
