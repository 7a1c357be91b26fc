"""How an optimiser step runs: here, or (later) sharded over processes."""
