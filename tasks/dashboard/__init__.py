"""The dashboard: pages for people, rendered on the server, live through event streams.

It calls the same services as every interface, for the user who looks, and its forms are protected against forgery.

Never: a query for each row of a list, or HTML from a task that is not escaped.
"""
