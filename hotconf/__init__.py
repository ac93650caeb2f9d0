"""Typed, hot-reloadable configuration for Python services."""

__version__ = "0.1.0"
