"""The demo: the service of `hotconf demo`, and its sample file. May import every room but `testing` and `cli`."""
