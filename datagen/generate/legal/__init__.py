"""What the methods for legal text share: rows, sentences, options, and what holds text to text."""
