"""Questions, options and answers: how they are compared, checked and set; no method."""
