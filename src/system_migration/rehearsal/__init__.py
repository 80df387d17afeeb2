"""A migration put through everything that a night can bring, on scratch copies of its database."""
