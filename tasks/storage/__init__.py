"""The database below the models: bulk statements and pages."""
