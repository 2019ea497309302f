"""Who calls, and what they may do: users, tokens, API keys, roles, the audit log.

- A `Caller` is made by `auth` alone, from a token, a key or a session; without authentication, everybody is one local user.
- `Caller.may` knows roles, and `for_caller` of a model knows what is visible. Nothing else decides.

Never: a password, token or key in a log, an event, a reply or an audit entry.
"""
