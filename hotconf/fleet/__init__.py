"""A fleet: one configuration on many instances, given to a share of them first, judged, and grown or taken back.

The pure part comes first: `plan` (the one mutable document), `cohort` (what an instance wants of it), `operations`
(what operators do to it), `report` (what instances say), `guards` and `ranks` (comparisons), `verdict` (the next plan).
Then what runs: `store` and `stores/` (where plan, documents and reports are kept), `source` with `documents`,
`measures` and `cache` (the instance), `judge` with `prometheus` and `metrics`, and `control` (the operator). The pure
part imports values and errors alone; the rest may import every earlier room.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from hotconf.fleet.cohort import bucket as bucket, wanted as wanted
    from hotconf.fleet.judge import Judge as Judge
    from hotconf.fleet.ranks import mann_whitney as mann_whitney
    from hotconf.fleet.source import Fleet as Fleet
else:
    _HOMES = {
        "Fleet": "source",
        "Judge": "judge",
        "bucket": "cohort",
        "mann_whitney": "ranks",
        "wanted": "cohort",
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ("Fleet", "Judge", "bucket", "mann_whitney", "wanted")
