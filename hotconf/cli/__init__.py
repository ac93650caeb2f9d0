"""The command, a file a verb."""
