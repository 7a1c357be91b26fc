"""The history of the schema, run by Alembic (`accord.store.upgrade`)."""
