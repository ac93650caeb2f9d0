"""The demo: the service of `hotconf demo`, its file, and what it says at its start. May import every earlier room."""
