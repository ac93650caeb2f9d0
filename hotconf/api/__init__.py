"""The configuration over HTTP, as functions that know neither aiohttp nor ASGI: a request in, a response or stream out.

May import every earlier room, and no framework: a face (`hotconf.web.app` is the one for aiohttp) hands requests over
and sends what comes back. Read `exchange` first (what the two exchange), then `endpoints` (the table of all of them),
then the handlers: `config` (reading and long polls), `feed` (everything that waits for a change), `commands` (reload,
patch, confirm, rollback), `inspect` (history, reports, origins, health). `safety`, with `tokens`, decides which
requests are answered at all. `parameters` reads what requests ask, `parts` and `representations` make documents,
`cache` keeps them, `openapi` describes all, and `dashboard` is the page.
"""
