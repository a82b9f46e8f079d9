"""The kinds memop serves, as pydantic models: one module a kind, `schema` turns them into CRD YAML.

Nothing here does I/O, and importing a kind's module loads no schema data: that is `schema`'s alone.
"""
