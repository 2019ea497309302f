"""The worker process: claims runs, executes their trees, records each step, delivers webhooks."""
