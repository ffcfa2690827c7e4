"""The process that judges masters with ``verdict: on``, without rights and behind the packet threads.

__main__.py is the program, chamber.py its loop: it reads the packet threads' statements, lets the judges work
(openflow/comparison/court.py), and answers natmirror (reports.py). runtime/judges_process.py starts and asks it.
"""
