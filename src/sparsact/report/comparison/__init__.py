"""A comparison of settings: its records, page, table and pictures."""
