"""Controllers for the demo, tests and captures.

programs.py starts them. learning_switch.py, inquirer.py, pinger.py (all on osken.py) and strict_hub.py are programs;
report_lines.py has the lines that they print.
"""
