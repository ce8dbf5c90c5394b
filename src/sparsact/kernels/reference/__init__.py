"""The operations in plain torch: their specification, and what every device but the CPU runs."""
