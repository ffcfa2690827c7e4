"""Write docs/reference from the code: what an operator can set, call and read.

Each page is a module whose ``page()`` returns the page's text: commands.py writes the command line's own help, rules.py
and rules_schema.py the parser's tables of keys, state.py the API's fields, counters and reasons, metrics.py the
metrics. pages.py lists the pages and compares them with the files; markdown.py has their tables, choices.py and
fields.py the docstrings of enumerations and of JSON fields. manual.py writes the man page of the Debian package,
which is no file of the checkout. ``make reference`` runs ``python -m natmirror.reference``.
The sentence about a key, a command or a counter stands where that is declared.
"""
