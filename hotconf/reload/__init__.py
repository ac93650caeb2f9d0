"""Reload: one reload, from the request to the swap of one pointer."""
