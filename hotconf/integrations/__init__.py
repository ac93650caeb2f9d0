"""Other hosts: one module for each framework or server in whose process a configuration can be live.

It imports everything below except `demo`. A module imports its own framework alone, and `asgi`, on which the others for
ASGI build. Read `asgi` first.
"""
