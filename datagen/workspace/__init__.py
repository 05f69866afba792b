"""YAML and prompts to frozen specs, with file:line in every error."""
