"""Kinema: two-stream video action recognition."""
