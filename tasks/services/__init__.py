"""The services: what every interface calls to read or change tasks. Sync, one transaction each.

Rooms import only from those below them, which `lint-imports` checks:

- `messages`, `upkeep`: what leaves the installation; what the installation does for itself.
- `history`, `schedules`: runs and tasks as their owners see them; runs to come.
- `runs`: their inputs and tags, what cancels them, and runs that wait for each other.
- `flows`, `waits`: trees under names; questions, and waits for a time, an event or a run.
- `spending`: what model calls used, and what each user may use.
- `trees`: store, read, change, copy and execute trees.
- `secrets`: what users and machines keep, and what is encrypted in the inputs of tasks.

Objects that a user may not see do not exist: both raise the same error. A service that writes is whole or not there, and what
it must work out for a large tree is done before its transaction (`apflow_site.db.beforehand`).

Never: an import of the worker or of a transport, or a query for each node of a tree.
"""
