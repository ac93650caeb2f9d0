"""The command line: verbs, and what they share to print, and to reach a configuration or a process.

May import every earlier room. Read `main` first (the verbs, each imported when it is used), then what they share:
`output` (all that verbs print), `target` (a configuration here), `remote` (a running process), `serving` and `log` (for
`serve` and `demo`). Then the verbs, most of them a file each; the short ones are in `control`. Verbs do not import each
other.
"""
