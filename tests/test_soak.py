"""The long tests: what is promised to them."""

import pytest


@pytest.mark.soak
def test_a_long_test_has_its_time_however_it_is_called(request):
    assert request.node.get_closest_marker("timeout").args == (900,)


def test_any_other_has_the_time_of_all(request):
    assert request.node.get_closest_marker("timeout") is None
    assert request.config.getini("timeout") == "60"
