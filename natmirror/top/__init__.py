"""``natmirror top``: a live screen of a running natmirror.

asking.py asks the API, each question in a thread of its own and one at a time. history.py turns the counters of
successive answers into rates, drawing.py into short curves. screen.py makes the whole screen from what is known and
what the operator wants to see (view.py), and does nothing else; legs.py has its table of legs. app.py alone knows
Textual: keys, the prompt of the filter, and the terminal.
"""
