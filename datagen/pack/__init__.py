"""Records to token ids and loss mask, documents to rows."""
