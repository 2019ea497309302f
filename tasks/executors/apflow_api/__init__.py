"""`apflow_api_executor`: another server of this kind runs trees for a task."""
