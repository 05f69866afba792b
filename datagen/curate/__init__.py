"""Reasons to refuse a record, one at a time or over the whole corpus."""
