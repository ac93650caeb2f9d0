"""Process: a whole service. Signals, servers, jobs, the drain, and systemd."""
