"""What tests of several folders share; `support` is on their path."""
