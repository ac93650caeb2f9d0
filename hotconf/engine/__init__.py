"""What runs reloads while a configuration is live.

Read `queue` (triggers coalesce there), `engine` (one loop that runs one reload after another, with watcher and timers),
and `running` (entering and leaving, with an event loop or a thread). May import every earlier room.
"""
