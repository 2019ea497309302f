"""The verbs: what every interface calls to read or change tasks. Sync, and one transaction each."""
