"""A sparse language model beside the dense one: its records, page, tables and picture."""
