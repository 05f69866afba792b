"""Methods: one file each, from a seed to drafts; what they share is in `passages`."""
