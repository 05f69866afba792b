"""Scenes with a norm: what can be asked of one, and what an answer to it says; no method."""
