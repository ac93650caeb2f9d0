"""The command line: a verb a module, imported when it is used. May import every other room.

`main` knows the verbs. `target` and `remote` are what verbs work on: a configuration here, and a running process.
`output` is the only way in which verbs print. `serving` has the options of `serve` and `demo`. Verbs do not import each
other. Read `main`, `output`, `target`, `remote`, then a verb.
"""
