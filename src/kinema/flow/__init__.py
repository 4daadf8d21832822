"""Optical flow: algorithms, its encoding, its store and its extraction."""
