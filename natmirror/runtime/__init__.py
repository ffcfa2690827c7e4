"""The running program: its threads, its chores, its orders and what it reports.

Begin with runner.py, which starts and stops all; worker.py is a thread that passes packets. Imports everything below.
"""
