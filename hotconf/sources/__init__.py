"""Sources: where values come from, and the stack that reads all of them.

May import values, errors, abc, formats and schema. Read `stack` first: which sources a configuration has, and how they
are read together. Then the sources, each on its own: `file` with `reader` and `mounts`, `memory`, `dotenv`, `pydantic`
with `construct` and `provenance` for what a settings class declares itself, `overlay` with `patch` and `atomic_write`
for what PATCH writes. `content` reads the files that settings name.
"""

from hotconf.sources.file import Dir as Dir, File as File
from hotconf.sources.memory import Memory as Memory

__all__ = ("Dir", "File", "Memory")
