"""Sources: where values come from. A file a kind; none of them knows another."""

from hotconf.sources.directory import Dir as Dir
from hotconf.sources.file import File as File
from hotconf.sources.memory import Memory as Memory

__all__ = ("Dir", "File", "Memory")
