"""Messages: what leaves the installation about runs and questions, as webhooks and notifications."""
