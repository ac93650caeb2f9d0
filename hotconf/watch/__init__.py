"""Change notices: which of the files that the sources read may have changed. May import values and sources.

A notice is only a reason to read again. A notice too many costs one read, a notice too few is a fault. Three rules keep
a change from being missed:

- The watcher watches folders and never files: every folder on the way from the root to a file, through each symbolic
  link. A file, link or parent folder that is replaced by a rename is then an event in a folder that stays.
- A watch belongs to a folder's inode. When a path leads through other folders than before, the watches are set again,
  and the states seen before setting them are compared with those seen after.
- Every `poll` seconds the watcher looks at all paths, for changes without an event: an overflow of the event queue, a
  write through a memory map.

Everything that touches the file system runs in one thread of the watcher's own. A dead network mount blocks that thread
and nothing else.

Read `watcher` first: the event loop's side and the thread. `events` tells what happens in folders, `states` follows
paths and tells what is there.
"""

from hotconf.watch.watcher import Watcher as Watcher

__all__ = ("Watcher",)
