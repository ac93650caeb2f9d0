"""An HTTP server for aiohttp applications: limits on clients, and a drain that loses no accepted request.

It knows nothing of configuration and imports of hotconf only `errors` and `values`: it could be a distribution of its
own. Read `server` first (life and drain), then `acceptor` (from a listening socket to a connection, with `sockets`),
`connection` (one client), `limits` (bounds, counts and refusals) and `drain` (what a long-lived handler sees of it).
"""
