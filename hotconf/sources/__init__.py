"""Sources: where values come from. A file a kind; none of them knows another."""

from hotconf.sources.file import Dir as Dir, File as File
from hotconf.sources.memory import Memory as Memory

__all__ = ("Dir", "File", "Memory")
