"""`ssh_executor`: commands on hosts that the operator names."""
