"""What gives a response its score."""
