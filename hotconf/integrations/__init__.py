"""Other hosts: one module for each framework or server in whose process a configuration can be live.

May import every earlier room. A module imports its own framework alone, and `asgi`, on which the others for ASGI build.
Read `asgi` first.
"""
