"""Stored flow in the layouts of older tools: written for their training code, and read."""
