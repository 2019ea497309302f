"""CrewAI: run crews that a task's `params.works` describes."""
