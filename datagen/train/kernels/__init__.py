"""The model's inner operations; `reference` holds the plain ones every faster one answers to."""
