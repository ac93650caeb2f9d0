"""What runs reloads while a configuration is live.

Read `queue` (triggers coalesce there), `engine` (runs one reload after another, with watcher and timers), `follow` (one
source that tells of changes), `host` (starts, moves and stops the engine), `running` (what a program enters and
leaves), `hangups` (SIGHUP for all configurations) and `thread` (the event loop of programs without one). May import
every earlier room.
"""
