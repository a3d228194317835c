"""Device families (`<name>.toml`) and backends (`<name>/compiler.py`, `<name>/session.py`)."""
