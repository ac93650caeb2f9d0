"""The command `hotconf`, also as `python -m hotconf`."""

import atexit
import contextlib
import os
import sys

from hotconf.signals import SignalRouter


def main() -> None:
    """Run the command. It takes the signals first: everything heavy is imported after that."""
    router = SignalRouter()
    router.install()
    code: int | None = None

    # Registered first, so that it runs last, after the interpreter has joined all threads: until then a second signal
    # and the deadline must end the process. It exits at once: with the handlers restored, a late Ctrl-C would end in a
    # traceback from the interpreter's own clean-up.
    @atexit.register
    def leave() -> None:
        if code is None:  # an unexpected exception or `sys.exit` set the exit code
            router.restore(ignore_hup=True)
            return
        if "logging" in sys.modules:  # it writes the lines that wait: its own turn may come after this one
            sys.modules["logging"].shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # broken, closed, or None
                stream.flush()
        os._exit(code)

    from hotconf.cli.main import run

    code = run(router)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
