"""Tasks that tasks add to their tree while it runs: the items of maps, and what executors spawn."""
