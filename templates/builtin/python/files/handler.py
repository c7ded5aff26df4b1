def handler(event, context):
    """Greets whom the input names.

    event is the input of the execution, context tells about the execution.
    What is returned is the result; what is printed is the log.
    """
    name = event.get("name", "world")
    print("greeting", name)
    return {"greeting": f"Hello, {name}!", "event": event}
