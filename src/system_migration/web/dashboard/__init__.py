"""The page: every screen is rendered here, on the same `Migrator` as the API; a little JavaScript keeps it fresh."""
