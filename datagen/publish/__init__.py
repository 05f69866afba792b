"""Dataset card and upload."""
