from tests.web.test_commands import *  # noqa: F403
