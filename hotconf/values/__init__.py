"""Values: frozen data and pure functions that every other room uses.

Nothing here waits, reads a file or knows pydantic. Imports no other room. Read `keypath` (where a value lies), `layer`
(what a source said, and from which place), `merge` (layers into one mapping), then `change` and `report` (what a reload
hands out); `secrets` knows which names say secret, `times` is for durations and the wall clock.
"""
