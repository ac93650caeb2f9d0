"""Change notices: which of the files that the sources read may have changed. May import values and sources.

A notice is only a reason to read again. A notice too many costs one read, a notice too few is a fault. Three rules keep
a change from being missed:

- The watcher watches folders and never files: every folder on the way from the root to a file, through each symbolic
  link. A file, link or parent folder that is replaced by a rename is then an event in a folder that stays.
- A watch belongs to a folder's inode. When a path leads through other folders than before, the watches are set again,
  and the states seen before setting them are compared with those seen after.
- Every `poll` seconds the watcher looks at all paths, for changes without an event: an overflow of the event queue, a
  write through a memory map. Where a look is expensive, that is done less often: it takes at most a thousandth of a
  processor, unless there are no events at all.

All watchers of a process share one thread and one instance of inotify. That thread only waits: a look at the files runs
in a thread of its own, because a dead network mount blocks it, and a source of the program may do so too.

Read `watcher` first, the event loop's side of one watcher; then `follower`, what the thread knows of it, and `thread`.
`events` tells what happens in folders, `states` follows paths and tells what is there.
"""

from hotconf.watch.watcher import Watcher as Watcher

__all__ = ("Watcher",)
