"""Controllers for demo, tests and captures: on os-ken, and our own of a few lines.

programs.py starts them; each of the others is a program.
"""
