"""The agent card and its signature."""
