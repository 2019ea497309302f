"""CrewAI: crews as a task's `params.works` describes them."""
