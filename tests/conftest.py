"""Fixtures for every suite."""

pytest_plugins = ["nvml_sim.plugin"]
