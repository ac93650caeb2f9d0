"""Demo: the service that `hotconf demo` runs."""
