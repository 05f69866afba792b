"""Compiled loops over text as Arrow holds it: bytes and offsets, no Python object a document.

Each module here is imported by the function that needs it: numba takes a second to load.
"""
