"""What runs reloads while a configuration is live.

Read `queue` (triggers coalesce there), `engine` (one loop that runs one reload after another, with watcher and timers),
`host` (which starts, moves and stops the engine) and `running` (what a program enters and leaves). May import every
earlier room.
"""
