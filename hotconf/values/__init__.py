"""Values: paths, layers, origins, merging and reports. Frozen data and pure functions that every room uses."""
