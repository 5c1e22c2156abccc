"""What the catalog promises, by topic; ``catalog.base`` is the whole."""
