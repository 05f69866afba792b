"""The trainer: kernels against definitions, documents apart, runs that stop and go on."""
