"""Returns what it gets: what is measured is everything around it."""


def handler(event, context):
    """Returns the event."""
    return event
