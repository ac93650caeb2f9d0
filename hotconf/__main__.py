"""The command `hotconf`, also as `python -m hotconf`."""

import atexit

from hotconf.signals import SignalRouter


def main() -> None:
    """Run the command. Its first statement takes the signals: whatever is heavy is imported after it."""
    router = SignalRouter()
    router.install()
    # Not in a `finally`: the interpreter joins threads before it gets here, and until then a second signal and the
    # deadline must still end the process. Registered first, so that it runs last.
    atexit.register(router.restore, ignore_hup=True)
    from hotconf.cli.main import run

    raise SystemExit(run(router))


if __name__ == "__main__":
    main()
