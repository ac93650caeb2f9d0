"""The command `hotconf`, also as `python -m hotconf`."""

from hotconf.signals import SignalRouter


def main() -> None:
    """Run the command. Its first statement takes the signals: whatever is heavy is imported after it."""
    router = SignalRouter()
    router.install()
    code = 1
    try:
        from hotconf.cli.main import run

        code = run(router)
    finally:
        router.restore(ignore_hup=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
