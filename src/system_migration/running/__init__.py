"""One run of one migration, from claiming the lease to the record of how it ended."""
