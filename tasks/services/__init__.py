"""The services: what every interface calls to read or change tasks. Sync, one transaction each."""
