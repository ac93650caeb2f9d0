"""Typed, hot-reloadable configuration for Python services: live, whole and never half changed.

Every public name is imported when it is first used, so that a command can install its signal handlers before anything
heavy is loaded, and `import hotconf` costs next to nothing.
"""

# Not from typing: importing that would take longer than all else that a command does before its signal handlers.
TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hotconf.abc import Prepared as Prepared, Source as Source, Subscriber as Subscriber
    from hotconf.conf import HotConf as HotConf
    from hotconf.errors import (
        ConfigError as ConfigError,
        HotconfError as HotconfError,
        NotLoaded as NotLoaded,
        Refuse as Refuse,
    )
    from hotconf.process.service import Service as Service
    from hotconf.reload.snapshot import Snapshot as Snapshot
    from hotconf.schema.settings import (
        Content as Content,
        Options as Options,
        Public as Public,
        RestartRequired as RestartRequired,
        Section as Section,
        Sensitive as Sensitive,
        Settings as Settings,
    )
    from hotconf.signals import SignalRouter as SignalRouter
    from hotconf.values.change import Change as Change
    from hotconf.values.layer import Layer as Layer, Origin as Origin
    from hotconf.values.report import Fault as Fault, Report as Report
else:
    _HOMES = {
        "Change": "values.change",
        "ConfigError": "errors",
        "Content": "schema.settings",
        "Fault": "values.report",
        "HotConf": "conf",
        "HotconfError": "errors",
        "Layer": "values.layer",
        "NotLoaded": "errors",
        "Options": "schema.settings",
        "Origin": "values.layer",
        "Prepared": "abc",
        "Public": "schema.settings",
        "Refuse": "errors",
        "Report": "values.report",
        "RestartRequired": "schema.settings",
        "Section": "schema.settings",
        "Sensitive": "schema.settings",
        "Service": "process.service",
        "Settings": "schema.settings",
        "SignalRouter": "signals",
        "Snapshot": "reload.snapshot",
        "Source": "abc",
        "Subscriber": "abc",
    }
    _SUBMODULES = frozenset({"abc", "errors", "fleet", "sources", "testing", "web"})

    __all__ = tuple(_HOMES)

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _SUBMODULES:
            return import_module(f"hotconf.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'hotconf' has no attribute {name!r}")
        value = getattr(import_module(f"hotconf.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES, *_SUBMODULES})
