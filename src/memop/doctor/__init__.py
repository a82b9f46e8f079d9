"""`memop doctor`: what keeps memop and its caches from working in a cluster, found with the user's own rights.

examine  what is read of the cluster, and tried, and what that means → Findings
finding  one thing that was looked at, as JSON
command  the findings shown as they come, for people or programs
"""
