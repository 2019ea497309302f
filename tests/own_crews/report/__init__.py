"""A crew as `crewai create crew` makes it: a class, and its agents and tasks in YAML."""
