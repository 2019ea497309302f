"""`grpc_executor`: methods of gRPC servers that describe themselves."""
