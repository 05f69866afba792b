"""Whether an answer is right, by a program: exact answers, tests of code, JSON, form."""
