"""What a study says about itself: one module per family of the playbook's questions.

Each diagnosis is a pure function from a `Study` to a `Finding`; `_checklist` puts them in order.
"""
