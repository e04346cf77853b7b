"""One virtual machine per party."""
