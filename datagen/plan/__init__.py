"""Specs to content-addressed steps, and their execution."""
