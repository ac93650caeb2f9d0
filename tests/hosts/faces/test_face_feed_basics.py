from tests.web.test_feed_basics import *  # noqa: F403
