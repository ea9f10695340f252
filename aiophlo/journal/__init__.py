"""The journal: intents and outcomes of batches, and open handovers, on disk."""
