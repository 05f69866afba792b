"""Prompt to parsed answer through any OpenAI-compatible server, paid for once."""
