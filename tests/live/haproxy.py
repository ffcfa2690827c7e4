"""HAProxy as the service's load balancer, and rules with which natmirror only mirrors it."""

HAPROXY = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 30s
  timeout server 30s
listen service
  bind 10.10.0.100:6653
  server c1 10.20.0.11:6653
"""
WATCHED_RULES = """
switches: [10.10.0.0/24]
services:
  - {name: web, address: 10.10.0.100, port: 6653, mirrors: [{name: master, address: 10.20.0.13}]}
"""
