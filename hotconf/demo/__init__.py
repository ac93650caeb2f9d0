"""The demos: services that show a configuration changing under load. May import every earlier room.

`service` is that of `hotconf demo`, with its file and its greeting. `fleet` is that of `hotconf fleet demo`.
"""
