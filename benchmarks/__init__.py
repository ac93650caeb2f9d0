"""hotconf's own measurements: `python -m benchmarks` from the project's root.

Every figure stands beside a limit or a peer that was measured in the same run, in turns with it. Compare ratios: the
times belong to one machine and one hour.
"""
