"""Data sets become an Index here; nothing else knows their names."""
