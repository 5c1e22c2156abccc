"""What is true of images, with no I/O at all."""
