"""The running program: its threads, its chores, the orders that it obeys and the status that it shows.

Begin with runner.py, which has the order of a start, of the main thread's turn and of a stop, and with reloader.py,
which has the order of a reload. worker.py is a thread that passes packets, engine_proxy.py its engine for other
threads, mailbox.py how one thread has another do something, chores.py work that may wait for the host. Imports
everything below.
"""
