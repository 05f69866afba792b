"""Where what a model wrote may run: a sandbox that holds, or nothing."""
