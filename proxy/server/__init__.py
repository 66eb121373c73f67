"""The HTTP servers: the listeners for nodes, and the admin port."""
