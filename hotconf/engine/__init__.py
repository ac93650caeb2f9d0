"""Engine: what runs reloads while a configuration is live."""
