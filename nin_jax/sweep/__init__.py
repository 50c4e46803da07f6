"""A config and its sweep → trials → results.jsonl."""
