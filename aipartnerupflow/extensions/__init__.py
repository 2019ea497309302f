"""Import paths that the API guide documents."""
