"""A whole process: signals, servers, jobs, the drain, and systemd.

May import every earlier room. It drives servers by the protocol in `abc` and knows none of them. `service` runs a
configuration with servers, `jobs` and tasks; it has the order of the start and of the drain. `systemd` tells a
supervisor about it. Signals themselves are in `hotconf.signals`, which must be importable before all else.
"""
