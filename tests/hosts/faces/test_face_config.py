from tests.web.test_config import *  # noqa: F403
