"""The first layer of HTTP requests: bodies, hosts and origins, and one middleware for what every request needs.

Never: more of a body in memory than `limits` allow, or a reply to a host or origin that is not ours.
"""
