"""One reload, from the request to the swap of one pointer.

Read `request` (what a reload is for), `reloader` (the reload itself, from the top), `candidate` with `guard`,
`validate` and `restart` (what becomes of the values, pure, in a thread), `subscribers` and `resources` (what must
agree), `edit` (patches), `holder` and `snapshot` (what readers see), `report`, `history` and `audit` (what follows).
`last_good` and `override` begin reloads of their own; `proxy` stands for the settings in force; `state` is the folder
for what outlives a process. May import values, errors, abc, schema and sources.
"""
