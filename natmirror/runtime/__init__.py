"""The running program: its threads, its chores, its commands and its status.

Begin with runner.py, which has the steps of a start, of one round of the main thread and of a stop, and with
reloader.py, which has the steps of a reload. worker.py is a packet thread; engine_proxy.py gives other threads access
to its engine; mailbox.py passes requests from one thread to another; chores.py does work that may wait for the host.
run_status.py makes the status, with the condition by problems.py and the rates by recent.py. Imports everything below.
"""
