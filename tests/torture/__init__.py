"""Writers write and workers work while calamities befall them; then a ledger is audited.

``make torture`` runs it for two minutes, a test for fifteen seconds. It is a project of its own,
with its own settings, on a server of its own, so that what it does disturbs no other test.
"""
