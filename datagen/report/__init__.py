"""One offline HTML page for what a command made."""
