"""One local model for many who ask at any time: rows join and leave the batch between two tokens."""
