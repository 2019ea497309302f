"""`command_executor`: runs a program in its own process group, under a guard that ends all of it."""
