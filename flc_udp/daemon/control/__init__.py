"""The control socket: requests and their answers, says, and follows."""
