"""`docker_executor`: containers of images that the operator names."""
