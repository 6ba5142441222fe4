"""What the kit costs beside the raw SQL and HTTP it is made of: `make bench`, or `python -m benchmarks --help`.

Every figure stands beside its floor, measured in the same run in alternating rounds, as a ratio: ratios travel from one
machine to another, figures do not. Postgres is an embedded one with durable settings; nothing needs to run beforehand.
"""
