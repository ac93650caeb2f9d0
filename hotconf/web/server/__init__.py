"""The server: aiohttp with a drain. It carries any application and knows nothing of configuration."""
