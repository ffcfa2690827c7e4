"""Programs that the live tests run inside namespaces."""
