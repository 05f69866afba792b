"""Legal pages to Markdown: parsed in limited subprocesses, read without recursion."""
