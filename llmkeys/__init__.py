"""Keys of the providers of models, and named secrets: stored encrypted, opened for one task.

- A value is a `Secret`, which neither a log nor `repr` shows, until the moment of its use.
- It goes only to the hosts and inputs that its owner allows, and is masked in all that comes back.

Never: a value in a row, an event, a result, an error or the admin.
"""
