"""What relay and gateway have in common: the words, the wire between them, the database."""
