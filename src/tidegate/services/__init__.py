"""What a caller can ask for; one class a file."""
