"""The worker process: it claims runs, executes their trees, records every step, and delivers
webhooks.
"""
