"""Fixtures of the tests of servers."""

from tests.web.conftest import certificate, gates, tls

__all__ = ("certificate", "gates", "tls")
