"""datagen: make, curate, mix and pack training data for language models, and train on it."""

__version__ = "0.1.0"
