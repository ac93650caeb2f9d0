"""The schema: what a settings class says about its fields, and all that follows from it. Pure functions.

May import values and errors. Read `settings` (what a program declares), `shape` (what a type annotation allows),
`fields` (keys, paths and models of a class) and `tree` (the same walk over built settings). On them stand `keys` (one
key for each field before layers merge), `diff` (what changed and what is shared), `redact` (what may be shown),
`explain` (where a value came from), `unknown` (keys that no field reads), `digest` (a short name of the values) and
`fingerprint` (a short name of the class). `caches` holds what is known of classes, and lets them go.
"""
