"""Reading a page: prose out of markup, sentences that stand alone, spans that answer a question."""
