"""What is kept and shown: records of trainings, scores, tables and report."""
