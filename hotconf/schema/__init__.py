"""Schema: what a settings class says of its fields, and what follows: keys, comparison, masking, explanation."""
