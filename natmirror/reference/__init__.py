"""Write docs/reference from the code: what an operator can set, call and read.

Each page is a module whose ``page()`` returns the page's text: commands.py from the command line's own help. pages.py
lists the pages and compares them with the files in docs/reference; markdown.py has the tables. ``make reference`` runs
``python -m natmirror.reference``. A page holds no sentence about a key, a command or a counter: each sentence stands
beside what it describes.
"""
