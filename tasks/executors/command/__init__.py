"""`command_executor`: a program in a process group of its own, under a guard that ends all of it."""
