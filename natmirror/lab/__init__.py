"""A load-balancer host between switches and controllers, in network namespaces: for demo, tests and captures."""
