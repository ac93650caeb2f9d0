"""Watches: hints that something the sources read may have changed.

A hint is no more than a reason to read again: what changed, and whether anything did, is for the reading to say. So a
hint too many costs one read and a hint too few is a fault. Three things keep a change from being missed:

- Folders are watched, never files, and every folder on the way from the root to the file, through each symbolic link. A
  file, a link or a parent folder that is replaced by a rename is an event in a folder that stays.
- A watch belongs to a folder's inode. When the way leads through other folders than before, the watches are set afresh,
  and what was seen before setting them is compared with what is seen after.
- At a slow pace everything is looked at without being asked, for what events do not tell (an overflowing queue, a write
  through a memory map).

All of it, watchfiles and every stat included, runs in one thread of the watcher's own. A dead network mount blocks that
thread and nothing else.

`walk` follows one path and notes the folders on its way, `survey` looks at all paths at one time, `events` tells what
happens in folders, `pace` says when a hint is due. `observer` is the thread, `watcher` what the event loop has of it.
"""

from hotconf.watch.watcher import Watcher as Watcher

__all__ = ("Watcher",)
