"""`memop status`: pools and clusters at a glance, read with the user's own rights; the operator has no part in it.

read     objects from the API server, `stats` from each memcached through port forwarding → Report
report   what is known, as JSON; sums over pods, and what was counted since the last look. Pure
overview Report → a table for people
command  one look, or one after the other
"""
