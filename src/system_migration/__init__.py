"""One-time data migrations."""
