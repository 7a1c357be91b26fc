"""A reward as a plain function; see function.yaml."""


def score(prompts, responses):
    """One point for a reply that ends in a full stop."""
    return [1.0 if response.rstrip().endswith(".") else 0.0 for response in responses]
