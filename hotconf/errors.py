"""Every error that hotconf raises. An error holds fields and derives its text from them."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would delay the command's signal handlers
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hotconf.values.report import Fault, Report, Stage


class HotconfError(Exception):
    """The base of every error of hotconf."""


class ConfigError(HotconfError):
    """A configuration was refused and there is none to go on with: at the start, or by a blocking load.

    `report` holds every fault at once; the text has one line for each.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        count = len(self.report.faults)
        head = f"configuration refused: {count} fault{'' if count == 1 else 's'}"
        return "\n".join([head, *(f"  {fault}" for fault in self.report.faults)])


class NotLoaded(HotconfError):
    """A value was read before the first load."""

    def __str__(self) -> str:
        return "the configuration is not loaded yet: call load(), or enter running(), before reading it"


class SchemaError(HotconfError, TypeError):
    """A settings class, or a path into it, cannot be used. Raised by the call that it is passed to, not by a reload."""


class Refuse(HotconfError):
    """Raised inside prepare to refuse a candidate. `reason` is shown to the operator, so it must hold no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SourceError(HotconfError):
    """A source could not be read. `faults` says what is wrong and where; what was running stays in force.

    `revision` is the version of the content that could not be understood, for the report; empty where none is known.
    """

    def __init__(self, faults: Iterable[Fault], revision: str = "") -> None:
        self.faults = tuple(faults)
        self.revision = revision
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class SourceBusy(SourceError):
    """A file cannot be read for the moment: it is being written, or the process is out of descriptors or memory.

    It is read again as soon as that is over.
    """


class SourceUnreachable(SourceError):
    """A source is out of reach, or denies access. What it held when it was read last may stand in for it."""


class RevisionConflict(HotconfError):
    """A document was not written, because the one that is there has another revision than the expected one."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(name, expected)
        self.name = name
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.name} does not have revision {self.expected} any more: read it again, and change that"


class Rejected(HotconfError):
    """A reload ends here, and what was running stays in force.

    `faults` has every reason, `stage` says where it was found. A reload turns it into its report, so no caller of a
    HotConf meets it.
    """

    def __init__(self, faults: Iterable[Fault], stage: Stage = "validate") -> None:
        self.faults = tuple(faults)
        self.stage: Stage = stage
        super().__init__(self.faults, stage)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class LastGoodUnusable(HotconfError):
    """The last known good cannot be started from. `reason` says why: it is missing, damaged or of other settings."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"last known good {self.path}: {self.reason}"


class FormatError(HotconfError):
    """A text is not what its format demands. Line and column count from 1; None where the parser cannot tell.

    `reason` does not quote the text: a line that does not parse may be the one that holds a password.
    """

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason, line, column)
        self.reason = reason
        self.line = line
        self.column = column

    def __str__(self) -> str:
        if self.line is None:
            return self.reason
        return f"line {self.line}, column {self.column or 1}: {self.reason}"


class ReentrantReload(HotconfError):
    """A reload was awaited from within a reload. It would wait for itself."""

    def __str__(self) -> str:
        return (
            "a reload was awaited from inside prepare, commit or a resource, which would wait for itself: "
            "use request_reload(), or await it from on_change"
        )


class Draining(HotconfError):
    """A reload was asked for while the process drains. The running configuration stays frozen until the exit."""

    def __str__(self) -> str:
        return "the process is draining: its configuration is frozen until it exits"


class NotRunning(HotconfError):
    """No engine is running: not yet, not any more, or not in this forked child."""

    def __str__(self) -> str:
        return (
            "no engine is running here, so nothing was reloaded and what was running stays in force: "
            "enter running() first"
        )


class NotBuilt(HotconfError, LookupError):
    """A resource was asked for where it was not built: before `running`, after it, or before its turn."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"resource {self.name} is not built here: resources exist while `running` is entered, "
            "and while one is built, those registered before it"
        )


class OperationRefused(HotconfError):
    """An operation cannot be done in the present state. Nothing was changed."""


class UnknownGeneration(OperationRefused, LookupError):
    """A generation that the history does not have: not yet, not any more, or not in this process."""

    def __init__(self, generation: int | None) -> None:
        super().__init__(generation)
        self.generation = generation

    def __str__(self) -> str:
        if self.generation is None:
            return "there is no earlier generation to go back to"
        return f"the history of this process has no generation {self.generation}"


class NoOverlay(OperationRefused):
    """A patch was sent, and there is no overlay that could take it."""

    def __str__(self) -> str:
        return "there is no overlay to write to: name a file for it with Options(overlay=…), or `--overlay FILE`"


class Stale(OperationRefused):
    """A patch was made for another state than the one in force when its turn came."""

    def __str__(self) -> str:
        return "the configuration has changed since it was read: read it again, and patch that"


class NothingToConfirm(OperationRefused):
    """A confirmation came, and no patch waits for one: it was confirmed before, or has been taken back."""

    def __str__(self) -> str:
        return "no patch waits to be confirmed: it was confirmed before, or has been taken back since"


class Unconfirmed(OperationRefused):
    """A patch came while another one waits to be confirmed."""

    def __str__(self) -> str:
        return "another patch waits to be confirmed: confirm it first, or wait until it is taken back"


class RollbackHeld(OperationRefused):
    """A patch was sent while a rollback is held. Its sources would bring back what was rolled back from."""

    def __init__(self, generation: int) -> None:
        super().__init__(generation)
        self.generation = generation

    def __str__(self) -> str:
        return (
            f"generation {self.generation} was rolled back to and is held: change the sources, or reload with force, "
            "then send the patch again"
        )


class SignalsUnavailable(HotconfError):
    """Signals can only be routed by the main thread of the main interpreter."""

    def __str__(self) -> str:
        return (
            "signals can only be routed from the main thread: pass signals=() here and call request_reload(), "
            "or start from the main thread"
        )
