"""Import paths that the guide promises."""
