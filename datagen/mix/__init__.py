"""Weights to tokens under epoch caps, and the order they come in."""
