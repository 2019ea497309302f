"""The database below the models: bulk statements, pages, and how much a request may load.

Never: a statement whose rows grow with what a user sends, without a bound (`loads`).
"""
