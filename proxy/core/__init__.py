"""The decisions, without a clock, a socket, a file or a random number: values in, values out."""
