"""Where a fleet keeps its plan, documents and reports: one file an engine, each with the protocol of `store`."""
