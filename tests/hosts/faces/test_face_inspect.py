from tests.web.test_inspect import *  # noqa: F403
