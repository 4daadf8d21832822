"""Exact reading and writing of frames."""
